// The panels that open from the bar: one at a time, closed by Escape, by their button, or by a touch elsewhere.
// Each is a <dialog> that a button names with aria-controls. Knows nothing of what is in them.

export class Panels extends EventTarget {
  #buttons = new Map(); // panel -> button
  #open = null;

  constructor(buttons) {
    super();
    for (const button of buttons) {
      const panel = document.getElementById(button.getAttribute("aria-controls"));
      this.#buttons.set(panel, button);
      button.setAttribute("aria-expanded", "false");
      button.addEventListener("click", () => this.toggle(panel.id));
      panel.querySelector(".close")?.addEventListener("click", () => this.close());
    }
    addEventListener("pointerdown", ({ target }) => this.#touched(target));
    addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !this.#open) return;
      event.preventDefault();
      this.close();
    });
  }

  get open() {
    return this.#open?.id ?? null;
  }

  toggle(id) {
    if (this.open === id) this.close();
    else this.show(id);
  }

  show(id) {
    if (this.open === id) return;
    this.close({ focus: false });
    const panel = document.getElementById(id);
    this.#open = panel;
    this.#buttons.get(panel).setAttribute("aria-expanded", "true");
    this.dispatchEvent(new CustomEvent("open", { detail: id }));
    panel.show();
    (panel.querySelector("[role=radiogroup] :checked") ?? panel).focus();
    panel.scrollTop = 0;
  }

  /** `focus`: back to the button, for those who use the keyboard. */
  close({ focus = true } = {}) {
    const panel = this.#open;
    if (!panel) return;
    const button = this.#buttons.get(panel);
    this.#open = null;
    button.setAttribute("aria-expanded", "false");
    const inside = panel.contains(document.activeElement);
    panel.close();
    if (focus && inside) button.focus();
    this.dispatchEvent(new CustomEvent("close", { detail: panel.id }));
  }

  #touched(target) {
    const panel = this.#open;
    if (!panel || panel.contains(target) || this.#buttons.get(panel).contains(target)) return;
    this.close({ focus: false });
  }
}
