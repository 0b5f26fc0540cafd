// The lines on the screen: one row for each segment being spoken, one for each final, in the order in which
// they began, so that no row changes its place when it is finished. A finished row looks as its open row did:
// same size, same weight, only the colours differ.
//
// Takes entries and partials; gives elements. Everything from the wire is set as text, never as markup. Finals
// stand in a log that screen readers follow; what may still change is hidden from them.

const OPEN_ROWS = 32; // more than streams that speak at once; a fault elsewhere may not fill the page

export class Board {
  #finals;
  #open;
  #kept;
  #rows = new Map(); // "stream/segment" -> open row
  #order = 0;
  #lastStream = null;

  constructor(finals, open, kept) {
    this.#finals = finals;
    this.#open = open;
    this.#kept = kept;
  }

  get empty() {
    return !this.#finals.childElementCount && !this.#open.childElementCount;
  }

  /** A state: the whole segment. */
  partial({ stream, segment, committed, tentative }) {
    const key = `${stream}/${segment}`;
    let row = this.#rows.get(key);
    if (!committed && !tentative.trim() && !row) return;
    if (!row) {
      row = this.#row(stream);
      row.text.append(words(""), words("", "tentative"));
      this.#rows.set(key, row);
      this.#open.append(row.line);
      if (this.#rows.size > OPEN_ROWS) this.#dropRow(this.#rows.keys().next().value);
    }
    const [settled, unsettled] = row.text.children;
    setText(settled, committed);
    setText(unsettled, tentative);
  }

  /** An entry of a transcript. A final takes the place of its open row. */
  add(entry) {
    const open = entry.kind === "final" ? this.#take(`${entry.stream}/${entry.segment}`) : null;
    const row = this.#row(entry.stream, open);
    row.line.classList.add(entry.kind === "note" ? "note" : "final");
    if (open) row.line.classList.add("fresh");
    row.text.append(words(entry.text));
    this.#finals.append(row.line);
    while (this.#finals.childElementCount > this.#kept) this.#finals.firstElementChild.remove();
  }

  /** A segment that gives no final. */
  drop(stream, segment) {
    this.#dropRow(`${stream}/${segment}`);
  }

  /** All open rows of `stream`, or of all streams. */
  dropOpen(stream = null) {
    for (const [key, row] of this.#rows) if (stream === null || row.stream === stream) this.#dropRow(key);
  }

  clear() {
    this.dropOpen();
    this.#finals.replaceChildren();
    this.#order = 0;
    this.#lastStream = null;
  }

  #take(key) {
    const row = this.#rows.get(key);
    row?.line.remove();
    this.#rows.delete(key);
    return row ?? null;
  }

  /** An open row that no final follows; the next row does not stand below it, and says its own name. */
  #dropRow(key) {
    if (this.#take(key)?.order === this.#order) this.#lastStream = null;
  }

  /** A row at the end, or at the place of `open`. Its name is shown where another stream was shown before. */
  #row(stream, open = null) {
    const line = document.createElement("div");
    line.className = "line";
    const order = open ? open.order : (this.#order += 1);
    line.style.order = String(order);
    const again = open ? open.again : stream === this.#lastStream;
    if (again) line.classList.add("again");
    if (!open) this.#lastStream = stream;
    if (stream) {
      const name = document.createElement("span");
      name.className = "name";
      name.textContent = stream;
      line.append(name);
    }
    const text = document.createElement("p");
    text.className = "text";
    text.dir = "auto";
    line.append(text);
    return { line, text, stream, order, again };
  }
}

function words(text, kind) {
  const span = document.createElement("span");
  if (kind) span.className = kind;
  span.textContent = text;
  return span;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
