// The choice of the stream: the button that names it and the panel that lists them all with their states.
// Takes a picture of the streams; tells which one was chosen. Knows no socket.

const STATES = { speaking: "speaking", quiet: "quiet", closed: "closed" };

export class Picker {
  #name;
  #mark;
  #list;
  #none;
  #chosen;

  /** `parts`: {name, mark, list, none}: elements. `onChoose(stream)`. */
  constructor({ name, mark, list, none }, { chosen, onChoose }) {
    this.#name = name;
    this.#mark = mark;
    this.#list = list;
    this.#none = none;
    this.#chosen = chosen;
    list.addEventListener("change", ({ target }) => onChoose(target.value));
  }

  choose(stream) {
    this.#chosen = stream;
  }

  /** `streams` as Presence.list() gives them. */
  show(streams) {
    const chosen = this.#chosen;
    this.#name.textContent = chosen === "*" ? "All streams" : chosen;
    const speaking = streams.some((one) => one.state === "speaking" && (chosen === "*" || one.name === chosen));
    this.#mark.dataset.state = speaking ? "speaking" : "quiet";
    const missing = chosen !== "*" && !streams.some((one) => one.name === chosen);
    const rows = missing ? [...streams, { name: chosen, state: "closed" }] : streams;
    this.#none.hidden = streams.length > 0;
    this.#update([{ name: "*", state: null }, ...rows]);
  }

  /** Rows are changed in place: the focus stays, and a screen reader is not led back to the top. */
  #update(rows) {
    const present = new Map([...this.#list.children].map((row) => [row.dataset.stream, row]));
    let at = this.#list.firstElementChild;
    for (const { name, state } of rows) {
      const row = present.get(name) ?? makeRow(name);
      present.delete(name);
      row.querySelector("input").checked = name === this.#chosen;
      const mark = row.querySelector(".mark");
      mark.dataset.state = state ?? "all";
      const said = row.querySelector(".state");
      if (said.textContent !== (STATES[state] ?? "")) said.textContent = STATES[state] ?? "";
      if (row === at) at = at.nextElementSibling;
      else this.#list.insertBefore(row, at);
    }
    for (const row of present.values()) row.remove();
  }
}

function makeRow(name) {
  const row = document.createElement("label");
  row.dataset.stream = name;
  const input = document.createElement("input");
  Object.assign(input, { type: "radio", name: "stream", value: name });
  const shown = make("bdi", "stream-name");
  shown.textContent = name === "*" ? "All streams" : name;
  row.append(input, make("span", "mark"), shown, make("span", "state"));
  return row;
}

function make(kind, name) {
  const element = document.createElement(kind);
  element.className = name;
  return element;
}
