// Which finals of a daemon have been told, so that what it tells again after a lost connection is not shown
// twice. Takes events with `stream` and `seq`; gives verdicts. Bounded. Knows no socket and no page.
//
// A seq counts one stream, and facts are never skipped: a number at or below the newest that was told is a
// repeat, unless something else stood under it; then the daemon has forgotten the stream and counts anew.

const REPEATED = 1000; // the most finals that a daemon tells again
const STREAMS = 256; // names that are remembered

export class Ledger {
  #streams = new Map(); // name -> {last: newest seq of a fact, finals: Map of seq -> what was said}

  /** The number of the newest fact of `stream`, 0 for none. */
  last(stream) {
    return this.#streams.get(stream)?.last ?? 0;
  }

  knows(stream) {
    return this.#streams.has(stream);
  }

  /** Whether this final is new. It counts as told from now on. */
  admit(final) {
    const said = JSON.stringify([final.segment, final.start_ms, final.end_ms, final.text]);
    let told = this.#told(final.stream);
    if (final.seq <= told.last) {
      if (isRepeat(told, final.seq, said)) return false;
      told = this.#begin(final.stream);
    }
    told.last = final.seq;
    told.finals.set(final.seq, said);
    if (told.finals.size > REPEATED) told.finals.delete(told.finals.keys().next().value);
    return true;
  }

  /** Another fact than a final. */
  note(event) {
    let told = this.#told(event.stream);
    if (event.type === "stream.opened" && event.seq <= told.last) told = this.#begin(event.stream);
    told.last = Math.max(told.last, event.seq);
  }

  clear() {
    this.#streams.clear();
  }

  /** Everything as a value that `load` takes back. */
  dump() {
    return [...this.#streams].map(([name, { last, finals }]) => [name, last, [...finals]]);
  }

  load(dumped) {
    this.#streams = new Map(dumped.map(([name, last, finals]) => [name, { last, finals: new Map(finals) }]));
  }

  /** What was told of `stream`, which is now the last to be forgotten. */
  #told(stream) {
    const told = this.#streams.get(stream);
    if (!told) return this.#begin(stream);
    this.#streams.delete(stream);
    this.#streams.set(stream, told);
    return told;
  }

  #begin(stream) {
    const told = { last: 0, finals: new Map() };
    this.#streams.delete(stream);
    this.#streams.set(stream, told);
    if (this.#streams.size > STREAMS) this.#streams.delete(this.#streams.keys().next().value);
    return told;
  }
}

/** `seq` is not beyond the newest. What lies before the oldest that is known was there before we came. */
function isRepeat(told, seq, said) {
  const before = told.finals.get(seq);
  if (before !== undefined) return before === said;
  const [oldest = Infinity] = told.finals.keys();
  return seq < oldest;
}
