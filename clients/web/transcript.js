// The lines of one selection (a stream's name, or * for all): what was said, in order, at most `kept` lines.
//
// Takes a daemon's hello and finals; says how to ask for what was missed and which finals are new. Can be kept
// over a reload of the page. Knows no socket and no element.

import { Ledger } from "./ledger.js";
import { recallValue, remember } from "./storage.js";

const LONGEST_HISTORY = 1000; // what a daemon tells at most
const KEY = "transcript";

export class Transcript {
  entries = []; // {kind: "final", stream, text, start_ms, end_ms, seq, segment} or {kind: "note", stream?, text}
  dropped = 0; // lines that were too many
  #ledger = new Ledger();
  #epoch = null;
  #repeating = false; // connected again: finals that come first may have been told before

  /** `history`: how many finals are asked for at first. */
  constructor(stream, { kept, history = LONGEST_HISTORY }) {
    this.stream = stream;
    this.kept = kept;
    this.history = Math.min(history, LONGEST_HISTORY);
  }

  /** The query of /v1/captions. Of all streams together the history is asked again, and told ones are dropped. */
  query() {
    if (this.#epoch === null) return { stream: this.stream, history: this.history };
    const since = this.stream === "*" ? null : this.#ledger.last(this.stream);
    return { stream: this.stream, history: LONGEST_HISTORY, epoch: this.#epoch, since };
  }

  /** A connection's first event. Gives what to tell the reader, or null. */
  greet(hello) {
    const before = this.#epoch;
    const epoch = String(hello.epoch);
    this.#repeating = before !== null;
    this.#epoch = epoch;
    if (before === null) return null;
    if (before !== epoch) {
      this.#ledger.clear();
      return this.#note("The captioning service started again here");
    }
    return hello.gap ? this.#note("Some captions may be missing here") : null;
  }

  /** A final as an entry, or null when it was told before. */
  take(final) {
    const stranger = this.#repeating && !this.#ledger.knows(final.stream);
    if (!this.#ledger.admit(final)) return null;
    // Older than this page where it did not ask for all there was; never shown as if it were new.
    if (stranger && this.history < LONGEST_HISTORY) return null;
    const { stream, seq, segment, text, start_ms, end_ms } = final;
    return text ? this.#add({ kind: "final", stream, seq, segment, text, start_ms, end_ms }) : null;
  }

  /** Another fact; something went missing where the sound was lost. Gives an entry or null. */
  note(event) {
    this.#ledger.note(event);
    if (event.type !== "audio.lost") return null;
    const seconds = ((event.end_ms - event.start_ms) / 1000).toFixed(1);
    return this.#add({ kind: "note", stream: event.stream, text: `${seconds} s of sound were lost here` });
  }

  clear() {
    this.entries = [];
    this.dropped = 0;
  }

  /** Keeps the lines over a reload of this tab. */
  save() {
    const { stream, entries, dropped } = this;
    const value = { stream, entries, dropped, epoch: this.#epoch, told: this.#ledger.dump() };
    remember("tab", KEY, this.#epoch === null ? null : JSON.stringify(value));
  }

  /** The lines that this tab showed of the same selection before it was loaded again. */
  restore() {
    const saved = recallValue("tab", KEY);
    remember("tab", KEY, null);
    if (saved?.stream !== this.stream) return;
    try {
      this.#ledger.load(saved.told);
      this.entries = saved.entries.slice(-this.kept);
      this.dropped = saved.dropped;
      this.#epoch = saved.epoch;
    } catch {
      this.#ledger.clear(); // of another version of this page
    }
  }

  #note(text) {
    return this.entries.length ? this.#add({ kind: "note", text }) : null;
  }

  #add(entry) {
    this.entries.push(entry);
    if (this.entries.length > this.kept) {
      this.entries.shift();
      this.dropped += 1;
    }
    return entry;
  }
}
