// Staying with the newest line, until somebody reads back. Takes the scrolling element and the lines in it;
// lines that come move the others up gently, unless less motion is wanted. `onChange(following)`.

const NEAR_PX = 24; // so near to the end is at the end
const GLIDE_MS = 200;
const LONGEST_GLIDE = 0.5; // of the height: what comes in larger pieces is just shown

export class Follow {
  #scroll;
  #lines;
  #onChange;
  #following = true;
  #lastTop = 0; // of the scrolling
  #height = 0; // of the lines
  #width = 0;
  #bottom = 0; // of the lines, in the window of the scrolling element
  #glide = null;
  #still = matchMedia("(prefers-reduced-motion: reduce)");

  constructor(scroll, lines, onChange) {
    this.#scroll = scroll;
    this.#lines = lines;
    this.#onChange = onChange;
    scroll.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    const sizes = new ResizeObserver(() => this.#resized());
    sizes.observe(scroll);
    sizes.observe(lines);
  }

  get following() {
    return this.#following;
  }

  /** Goes to the newest line and stays with it. */
  live() {
    this.#set(true);
    this.#end();
  }

  /** Only somebody who scrolls moves up; lines that come do not. */
  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroll;
    if (scrollHeight - scrollTop - clientHeight < NEAR_PX) this.#set(true);
    else if (scrollTop < this.#lastTop - 1) this.#set(false);
    this.#note();
  }

  #resized() {
    const before = { bottom: this.#bottom, height: this.#height, width: this.#width };
    if (this.#following) this.#end();
    this.#height = this.#lines.offsetHeight;
    this.#width = this.#scroll.clientWidth;
    if (!this.#following || before.width !== this.#width) return;
    const moved = before.bottom - (this.#lineTop() + before.height); // by how much what was there went up
    if (moved > 0) this.#glideFrom(moved);
  }

  /** Of the lines, in the window of the scrolling element; a glide that is under way does not count. */
  #lineTop() {
    return this.#lines.offsetTop - this.#scroll.scrollTop;
  }

  #end() {
    this.#scroll.scrollTop = this.#scroll.scrollHeight;
    this.#note();
  }

  #note() {
    this.#lastTop = this.#scroll.scrollTop;
    this.#bottom = this.#lineTop() + this.#lines.offsetHeight;
  }

  #glideFrom(pixels) {
    const underWay = this.#glide ? new DOMMatrix(getComputedStyle(this.#lines).transform).m42 : 0;
    this.#glide?.cancel();
    const from = pixels + underWay;
    if (this.#still.matches || document.hidden || from > this.#scroll.clientHeight * LONGEST_GLIDE) return;
    const steps = { transform: [`translateY(${from}px)`, "none"] };
    this.#glide = this.#lines.animate(steps, { duration: GLIDE_MS, easing: "cubic-bezier(.2,.7,.2,1)" });
  }

  #set(following) {
    if (this.#following === following) return;
    this.#following = following;
    this.#onChange(following);
  }
}
