// A stream of our own at /v1/speak that outlives its sockets. Takes 16-bit samples at the rate given; sends them
// as the network allows, and after a lost socket again from where the daemon has heard.
//
// The newest 30 s are held (the daemon waits as long for us). What no longer fits is lost, counted and told.
// States: connecting · speaking {stream} · lost {message?} · failed {message} · ended. Knows no microphone, no element.

import { AudioRing } from "./audio-ring.js";

const HELD_S = 30;
const AHEAD_S = 1; // what may wait in the socket; the rest waits in the ring
const LARGEST_S = 0.5; // of one message
const LOOK_AGAIN_MS = 50;
const FIRST_DELAY_MS = 300;
const LONGEST_DELAY_MS = 5000;
const LAST_WORDS_MS = 10000; // for the daemon's last finals after our end

export class Speaker {
  lost_ms = 0;
  #access;
  #stream;
  #rate;
  #onState;
  #ring;
  #socket = null;
  #resume = null;
  #sent = 0; // sample after the newest that was sent
  #zero = 0; // the sample at the daemon's time 0
  #answered = 0; // all before this sample has had its final
  #ended = false;
  #toldEnd = false;
  #finished = false;
  #failures = 0;
  #pumping = 0; // timers: to send more, and to connect again
  #retrying = 0;

  constructor(access, { stream, rate, onState }) {
    this.#access = access;
    this.#stream = stream;
    this.#rate = rate;
    this.#onState = onState;
    this.#ring = new AudioRing(HELD_S * rate);
    this.#connect();
  }

  write(samples) {
    if (this.#ended || this.#finished) return;
    this.#ring.write(samples);
    this.#pump();
  }

  /** No more sound. `ended` follows once the daemon has said its last. */
  end() {
    if (this.#ended || this.#finished) return;
    this.#ended = true;
    setTimeout(() => this.#finish("ended"), LAST_WORDS_MS);
    this.#pump();
  }

  #connect() {
    const query = { stream: this.#stream, rate: this.#rate, events: "final", resume: this.#resume };
    const socket = this.#access.socket("v1/speak", query);
    let error = null;
    let greeted = false;
    socket.binaryType = "arraybuffer";
    socket.onmessage = (message) => {
      const event = JSON.parse(message.data);
      greeted ||= event.type === "hello";
      if (event.type === "error") error = event;
      else this.#take(socket, event);
    };
    socket.onclose = ({ code }) => this.#closed({ code, error, greeted });
    this.#onState("connecting");
  }

  #take(socket, event) {
    if (event.type === "hello") this.#greet(socket, event);
    if (event.type === "transcript.final") {
      this.#answered = Math.max(this.#answered, this.#zero + this.#samples(event.end_ms));
    }
    if (event.type === "stream.closed" && this.#ended) this.#finish("ended");
  }

  #greet(socket, hello) {
    if (hello.heard_until_ms === undefined) {
      // A new stream: what has had no final yet is its first sound.
      this.#zero = this.#sent = Math.max(this.#ring.start, this.#answered);
    } else this.#sent = this.#zero + this.#samples(hello.heard_until_ms);
    this.#resume = hello.resume ?? null;
    this.#socket = socket;
    this.#toldEnd = false;
    this.#failures = 0;
    this.#onState("speaking", { stream: this.#stream });
    this.#pump();
  }

  /** Sends what may be sent now; looks again soon where something has to wait. */
  #pump() {
    clearTimeout(this.#pumping);
    const socket = this.#socket;
    if (!socket || socket.readyState !== WebSocket.OPEN) return;
    this.#skip();
    while (this.#sent < this.#ring.end && socket.bufferedAmount < 2 * AHEAD_S * this.#rate) {
      const until = Math.min(this.#ring.end, this.#sent + LARGEST_S * this.#rate);
      socket.send(this.#ring.read(this.#sent, Math.floor(until)));
      this.#sent = Math.floor(until);
    }
    if (this.#sent < this.#ring.end) this.#pumping = setTimeout(() => this.#pump(), LOOK_AGAIN_MS);
    else if (this.#ended && !this.#toldEnd) {
      this.#toldEnd = true;
      socket.send(JSON.stringify({ v: 1, type: "end" }));
    }
  }

  /** Sound that went out of the ring before it could be sent: the daemon's time goes on without it. */
  #skip() {
    const gone = this.#ring.start - this.#sent;
    if (gone <= 0) return;
    this.lost_ms += Math.round((gone * 1000) / this.#rate);
    this.#zero += gone;
    this.#sent = this.#ring.start;
  }

  #closed({ code, error, greeted }) {
    this.#socket = null;
    clearTimeout(this.#pumping);
    if (this.#finished) return undefined;
    if (this.#toldEnd && (code === 1000 || error?.code === "resume_unknown")) return this.#finish("ended");
    if (error?.code === "resume_unknown") this.#resume = null; // too late, or another daemon: a new stream
    else if (error?.fatal && !["capacity", "overloaded", "shutting_down"].includes(error.code)) {
      return this.#finish("failed", { message: error.message });
    }
    this.#failures += 1;
    return this.#again(greeted || error !== null);
  }

  /** Connects again after a while, unless the daemon says that it is of no use. `spoke`: it let us in before. */
  async #again(spoke) {
    const found = spoke ? { kind: "lost" } : await this.#access.inquire("v1/speak");
    if (found.kind === "token") return this.#finish("failed", { message: "A token is needed." });
    if (found.kind === "refused") return this.#finish("failed", { message: found.message });
    if (this.#finished) return undefined;
    this.#onState("lost", { message: found.reasons?.join(" ") });
    const longest = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** Math.min(this.#failures - 1, 10));
    this.#retrying = setTimeout(() => this.#connect(), longest * (0.5 + Math.random() / 2));
    return undefined;
  }

  #finish(state, detail) {
    if (this.#finished) return;
    this.#finished = true;
    clearTimeout(this.#retrying);
    clearTimeout(this.#pumping);
    this.#socket?.close();
    this.#onState(state, detail);
  }

  #samples(milliseconds) {
    return Math.round((milliseconds * this.#rate) / 1000);
  }
}
