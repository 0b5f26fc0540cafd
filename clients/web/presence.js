// Which streams there are and whether somebody speaks in them. Takes events and the list of /v1/streams; gives
// a sorted picture of them and says when it changed. Bounded. Knows no element.

const REMEMBERED = 64; // closed streams that are still named

export class Presence extends EventTarget {
  #streams = new Map(); // name -> {name, open, speaking, behind_ms, ended: newest segment that ended}

  /** Open streams first, then by name: [{name, state: "speaking" | "quiet" | "closed", behind_ms}]. */
  list() {
    return [...this.#streams.values()]
      .map(({ name, open, speaking, behind_ms }) => ({
        name,
        behind_ms,
        state: open ? (speaking ? "speaking" : "quiet") : "closed",
      }))
      .sort((a, b) => (a.state === "closed") - (b.state === "closed") || a.name.localeCompare(b.name));
  }

  /** How far the captions of `stream` (or of all, for *) are behind, in ms; 0 when they keep up. */
  behind(stream) {
    const asked = stream === "*" ? [...this.#streams.values()] : [this.#streams.get(stream)];
    return Math.max(0, ...asked.map((one) => one?.behind_ms ?? 0));
  }

  speaking(stream) {
    return this.list().some((one) => one.state === "speaking" && (stream === "*" || one.name === stream));
  }

  /** The answer of /v1/streams. */
  takeList(list) {
    const open = new Set(list.map((one) => one.name));
    for (const name of open) this.#at(name).open = true;
    for (const one of this.#streams.values()) if (!open.has(one.name)) close(one);
    this.#changed();
  }

  take(event) {
    if (!event.stream) return;
    const one = this.#at(event.stream);
    const { type, segment } = event;
    if (type === "stream.closed") close(one);
    else if (type !== "transcript.final" && type !== "transcript.suppressed") one.open = true; // may be history
    if (type === "stream.opened") one.ended = 0;
    if (type === "speech.started" || (type === "transcript.partial" && segment > one.ended)) one.speaking = true;
    if (type === "speech.ended") {
      one.ended = segment;
      one.speaking = false;
    }
    if (type === "lag") one.behind_ms = event.level === "ok" ? 0 : event.behind_ms;
    this.#changed();
  }

  /** The connection is gone: what was going on is not known any more. */
  forget() {
    for (const one of this.#streams.values()) Object.assign(one, { speaking: false, behind_ms: 0, ended: 0 });
    this.#changed();
  }

  #at(name) {
    let one = this.#streams.get(name);
    if (!one) {
      one = { name, open: false, speaking: false, behind_ms: 0, ended: 0 };
      this.#streams.set(name, one);
      const closed = [...this.#streams.values()].filter((other) => !other.open && other !== one);
      for (const other of closed.slice(0, -REMEMBERED)) this.#streams.delete(other.name);
    }
    return one;
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

function close(one) {
  Object.assign(one, { open: false, speaking: false, behind_ms: 0 });
}

/**
 * Looks at /v1/streams from time to time. `onMissed`: nobody answered twice in a row, so that a socket which
 * still seems open is not. Waits `interval()` ms between two looks; `now()` of what it gives looks at once.
 */
export function watchStreams(access, presence, { interval, onMissed }) {
  let timer = 0;
  let missed = 0;
  let looking = false;

  async function look() {
    if (looking) return;
    looking = true;
    clearTimeout(timer);
    try {
      const answer = await access.get("v1/streams");
      if (answer.status === 200) presence.takeList(JSON.parse(answer.text));
      missed = 0;
    } catch {
      missed += 1;
      if (missed === 2) onMissed();
    }
    looking = false;
    timer = setTimeout(look, interval());
  }

  look();
  return { now: look };
}
