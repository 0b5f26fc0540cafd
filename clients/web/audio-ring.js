// The newest seconds of a microphone, at their places in time. Takes 16-bit samples; gives them back by the
// number of the sample since the beginning. When full the oldest go. Knows no socket.

export class AudioRing {
  #samples;
  end = 0; // after the newest sample

  constructor(samples) {
    this.#samples = new Int16Array(samples);
  }

  /** The oldest sample that is still here. */
  get start() {
    return Math.max(0, this.end - this.#samples.length);
  }

  write(samples) {
    const size = this.#samples.length;
    const newest = samples.subarray(Math.max(0, samples.length - size));
    const at = (this.end + samples.length - newest.length) % size;
    const first = newest.subarray(0, size - at);
    this.#samples.set(first, at);
    this.#samples.set(newest.subarray(first.length), 0);
    this.end += samples.length;
  }

  /** Samples [from, to), which must be here. */
  read(from, to) {
    const size = this.#samples.length;
    const piece = new Int16Array(to - from);
    const at = from % size;
    const first = this.#samples.subarray(at, Math.min(size, at + piece.length));
    piece.set(first);
    piece.set(this.#samples.subarray(0, piece.length - first.length), first.length);
    return piece;
  }
}
