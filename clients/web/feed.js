// What both pages do with a daemon's events: transcript, board and presence are told, and the state of the
// connection is turned into words. One selection at a time; knows no control and no panel.

import { Board } from "./board.js";
import { Connection } from "./connection.js";
import { Presence } from "./presence.js";
import { Transcript } from "./transcript.js";

const QUIET_START_MS = 1500; // history at the first connection is not read out by screen readers

export class Feed extends EventTarget {
  presence = new Presence();
  #access;
  #status;
  #board;
  #finals;
  #bounds;
  #transcript = null;
  #connection = null;
  #open = false;
  #speakUp = 0;

  /** `finals`, `open`: elements. `bounds`: {kept, history}. Fires "line" when text has come. */
  constructor(access, status, { finals, open, bounds }) {
    super();
    this.#access = access;
    this.#status = status;
    this.#finals = finals;
    this.#bounds = bounds;
    this.#board = new Board(finals, open, bounds.kept);
  }

  get transcript() {
    return this.#transcript;
  }

  get empty() {
    return this.#board.empty;
  }

  /** Shows `stream` (or *) from now on. `transcript`: of an earlier time, to go on with. */
  select(stream, transcript = new Transcript(stream, this.#bounds)) {
    this.#connection?.stop();
    this.#transcript = transcript;
    this.#redraw();
    this.#hush();
    this.presence.forget();
    this.#connection = new Connection(this.#access, {
      query: () => transcript.query(),
      onEvent: (event) => this.#take(event),
      onState: (kind, detail) => this.#state(kind, detail),
    });
    this.#connection.start();
  }

  /** Nobody answers though the socket seems open. */
  suspect() {
    if (this.#open) this.#connection.drop();
  }

  clear() {
    this.#transcript.clear();
    this.#redraw();
  }

  #redraw() {
    this.#board.clear();
    for (const entry of this.#transcript.entries) this.#board.add(entry);
    this.dispatchEvent(new Event("line"));
  }

  #take(event) {
    this.presence.take(event);
    const board = this.#board;
    let entry = null;
    switch (event.type) {
      case "hello":
        board.dropOpen(); // what is being said now is told next
        entry = this.#transcript.greet(event);
        break;
      case "transcript.partial":
        board.partial(event);
        this.dispatchEvent(new Event("line"));
        break;
      case "transcript.final":
        entry = this.#transcript.take(event);
        if (!entry) board.drop(event.stream, event.segment);
        break;
      case "transcript.suppressed":
        board.drop(event.stream, event.segment);
        entry = this.#transcript.note(event);
        break;
      case "stream.closed":
        board.dropOpen(event.stream);
        entry = this.#transcript.note(event);
        break;
      default:
        if (event.stream && event.seq) entry = this.#transcript.note(event);
    }
    if (entry) {
      board.add(entry);
      this.dispatchEvent(new Event("line"));
    }
    if (this.#open) this.#tell();
  }

  #state(kind, detail) {
    this.#open = kind === "open";
    if (!this.#open) this.presence.forget();
    if (this.#open) this.#tell();
    else if (kind === "unready") this.#status.show(kind, detail.reasons.join(" "));
    else if (kind === "refused") this.#status.show(kind, detail.message);
    else this.#status.show(kind);
    this.dispatchEvent(new CustomEvent("state", { detail: { kind, ...detail } }));
  }

  #tell() {
    const behind = this.presence.behind(this.#transcript.stream);
    if (behind) this.#status.show("behind", behind);
    else this.#status.show("live");
  }

  #hush() {
    this.#finals.setAttribute("aria-live", "off");
    clearTimeout(this.#speakUp);
    this.#speakUp = setTimeout(() => this.#finals.setAttribute("aria-live", "polite"), QUIET_START_MS);
  }
}
