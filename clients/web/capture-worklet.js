// In the browser's audio thread: sound of one channel in, pieces of 16-bit samples and their level out.

const PIECE_S = 0.05;

class Capture extends AudioWorkletProcessor {
  #piece = new Int16Array(Math.round(sampleRate * PIECE_S));
  #filled = 0;
  #squares = 0;

  constructor() {
    super();
    this.port.onmessage = () => this.#finish();
  }

  process([[channel]]) {
    for (const value of channel ?? []) {
      const clipped = Math.max(-1, Math.min(1, value));
      this.#piece[this.#filled] = Math.round(clipped * 32767);
      this.#squares += clipped * clipped;
      this.#filled += 1;
      if (this.#filled === this.#piece.length) this.#post();
    }
    return true;
  }

  #post() {
    const samples = this.#piece.slice(0, this.#filled);
    const level = Math.sqrt(this.#squares / Math.max(1, this.#filled));
    this.port.postMessage({ samples, level }, [samples.buffer]);
    this.#filled = 0;
    this.#squares = 0;
  }

  /** What is left of the last piece, then word that nothing follows. */
  #finish() {
    this.#post();
    this.port.postMessage({ done: true });
  }
}

registerProcessor("capture", Capture);
