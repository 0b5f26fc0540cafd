// What the page says about its connection: a word and a sentence for each state, to a status line that screen
// readers follow and to the place where the first captions will stand. Knows no socket.

const WORDS = {
  connecting: "Connecting",
  live: "Live",
  behind: "Behind",
  lost: "Reconnecting",
  unready: "Not ready",
  token: "Token needed",
  refused: "Refused",
};
const EMPTY = {
  connecting: ["Connecting", "One moment."],
  live: ["Waiting for speech", "Captions appear here as soon as somebody speaks."],
  lost: ["No connection", "The captioning service cannot be reached. This page keeps trying."],
  unready: ["Getting ready", "The captioning service is starting."],
  token: ["This service asks for a token", "Whoever runs it can give you one."],
  refused: ["Not allowed", "The captioning service does not let this page in."],
};

export class Status {
  #line;
  #places;
  #state = "connecting";

  /** `line`: the status element, of two spans. `places`: {title, detail, trouble}: elements of the page, or null. */
  constructor(line, places) {
    this.#line = line;
    this.#places = places;
    this.show("connecting");
  }

  get state() {
    return this.#state;
  }

  /** `detail`: what is wrong, in the daemon's words; for "behind" how far, in ms. */
  show(state, detail = "") {
    this.#state = state;
    const behind = state === "behind";
    const more = behind ? "" : detail;
    const [word, rest] = this.#line.children;
    setOnce(document.documentElement.dataset, "state", state);
    setOnce(this.#line.dataset, "state", state);
    setOnce(word, "textContent", behind ? `${(detail / 1000).toFixed(1)} s behind` : WORDS[state]);
    setOnce(rest, "textContent", more ? `: ${more}` : ""); // told once, not at each event
    if (!this.#places) return;
    const [title, sentence] = EMPTY[state] ?? EMPTY.live;
    setOnce(this.#places.title, "textContent", title);
    setOnce(this.#places.detail, "textContent", more || sentence);
    setOnce(this.#places.trouble, "textContent", `${title}. ${more || sentence}`);
  }
}

function setOnce(target, name, value) {
  if (target[name] !== value) target[name] = value;
}
