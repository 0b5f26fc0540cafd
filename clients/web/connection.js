// One conversation with /v1/captions that outlives its sockets: connect, listen, connect again.
//
// Takes a transcript, which knows what to ask for. Gives events and states:
// connecting · open · lost · token {wrong} · refused {message} · unready {reasons}.
// One loop and one timer at a time, however often a connection is lost. Knows no element.

const FIRST_DELAY_MS = 300;
const LONGEST_DELAY_MS = 8000;
const STEADY_MS = 5000; // a connection that lasted so long was a good one: the next wait is short again
const OPEN_WITHIN_MS = 10000;
const UNREADY_MS = 1500; // between looks at a daemon that is still loading
const REFUSED_MS = 30000; // between tries where trying is not likely to help
const SHUT_OUT = 3; // failures in a row, while the daemon answers plain requests, that are no accident

export class Connection {
  #access;
  #query;
  #onEvent;
  #onState;
  #socket = null;
  #stopped = false;
  #wake = () => {};
  #hurry = () => this.#wake();
  #show = () => document.hidden || this.#wake();

  /** `query`: a function that gives the query of the next connection. */
  constructor(access, { query, onEvent, onState }) {
    this.#access = access;
    this.#query = query;
    this.#onEvent = onEvent;
    this.#onState = onState;
  }

  start() {
    addEventListener("online", this.#hurry);
    document.addEventListener("visibilitychange", this.#show);
    this.#run();
  }

  stop() {
    this.#stopped = true;
    removeEventListener("online", this.#hurry);
    document.removeEventListener("visibilitychange", this.#show);
    this.drop();
    this.#wake();
  }

  /** Gives the socket up, though nobody has closed it: the other end does not answer any more. */
  drop() {
    this.#socket?.giveUp();
  }

  async #run() {
    let failures = 0;
    this.#state("connecting");
    while (!this.#stopped) {
      const began = performance.now();
      const ended = await this.#converse();
      if (this.#stopped) return;
      failures = ended.opened && performance.now() - began > STEADY_MS ? 0 : failures + 1;
      await this.#recover(ended, failures);
    }
  }

  /** One socket from its opening to its end. Gives {opened, error}: whether it spoke, and its fatal error. */
  #converse() {
    return new Promise((resolve) => {
      const socket = this.#access.socket("v1/captions", this.#query());
      const ended = { opened: false, error: null };
      const timer = setTimeout(() => socket.giveUp(), OPEN_WITHIN_MS);
      const end = () => {
        clearTimeout(timer);
        socket.onmessage = socket.onclose = null;
        this.#socket = null;
        resolve(ended);
      };
      socket.giveUp = () => {
        end();
        socket.close();
      };
      socket.onclose = end;
      socket.onmessage = (message) => {
        const event = JSON.parse(message.data);
        if (event.type === "error" && event.fatal) ended.error = event;
        else if (event.type === "hello") {
          clearTimeout(timer);
          ended.opened = true;
          this.#state("open", event);
          this.#onEvent(event);
        } else this.#onEvent(event);
      };
      this.#socket = socket;
    });
  }

  /** Says what is wrong, and waits as long as fits it. */
  async #recover(ended, failures) {
    if (ended.error && !["capacity", "overloaded", "shutting_down"].includes(ended.error.code)) {
      this.#state("refused", { message: ended.error.message });
      return this.#pause(REFUSED_MS);
    }
    if (ended.opened) this.#state("lost");
    const found = ended.opened ? { kind: "lost" } : await this.#access.inquire("v1/captions");
    if (this.#stopped) return undefined;
    if (found.kind === "open" && failures >= SHUT_OUT) {
      this.#state("refused", { message: shutOut() });
      return this.#pause(LONGEST_DELAY_MS);
    }
    this.#state(found.kind === "open" ? "lost" : found.kind, found);
    if (found.kind === "token") return this.#tokenGiven();
    if (found.kind === "refused") return this.#pause(REFUSED_MS);
    if (found.kind === "unready") return this.#pause(UNREADY_MS * (0.5 + Math.random()));
    const longest = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** Math.min(failures - 1, 10));
    return this.#pause(longest * (0.5 + Math.random() / 2));
  }

  /** Waits, or less: when the network is back, and when somebody looks at the page again. */
  #pause(milliseconds) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #tokenGiven() {
    return new Promise((resolve) => {
      this.#wake = () => this.#stopped && resolve();
      this.#access.addEventListener("token", resolve, { once: true });
    });
  }

  #state(kind, detail = {}) {
    if (!this.#stopped) this.#onState(kind, detail);
  }
}

/** A plain request has no origin, so only a websocket is refused for it; and some proxies pass none on. */
function shutOut() {
  return (
    "The service answers, but lets no websocket of this page in. A proxy in between must pass websockets on, " +
    `and server.origins must have ${location.origin} in it.`
  );
}
