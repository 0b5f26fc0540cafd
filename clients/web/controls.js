// The settings' panel: its switches show what holds, and change it; and the addresses that carry the same look
// elsewhere. Takes settings. Knows no socket.

import { toClipboard } from "./clipboard.js";

const STEP = 1.12; // from one size to the next
const LEAST_PX = 14;
const MOST_PX = 400;

export class Controls {
  #panel;
  #settings;
  #scroll;

  /** `scroll`: the element whose font size is the captions'. `stream()`: the one that is shown. */
  constructor(panel, settings, scroll, stream) {
    this.#panel = panel;
    this.#settings = settings;
    this.#scroll = scroll;
    panel.addEventListener("change", ({ target }) => this.#changed(target));
    panel.addEventListener("click", ({ target }) => {
      const { action } = target.closest("button")?.dataset ?? {};
      if (action === "smaller") this.resize(-1);
      if (action === "larger") this.resize(1);
      if (action === "auto-size") settings.set("size", "auto");
      if (action === "reset") settings.reset();
      if (action === "copy-page") this.#copy("", stream());
      if (action === "copy-overlay") this.#copy("overlay", stream());
    });
    settings.addEventListener("change", () => this.show());
    addEventListener("resize", () => panel.open && this.show());
  }

  /** One step larger (1) or smaller (-1). */
  resize(direction) {
    const now = parseFloat(getComputedStyle(this.#scroll).fontSize);
    const next = Math.round(now * STEP ** direction);
    this.#settings.set("size", `${Math.max(LEAST_PX, Math.min(MOST_PX, next))}px`);
  }

  /** The next theme in turn. */
  turnTheme() {
    const themes = ["auto", "dark", "light", "contrast"];
    this.#settings.set("theme", themes[(themes.indexOf(this.#settings.get("theme")) + 1) % themes.length]);
  }

  show() {
    for (const input of this.#panel.querySelectorAll("input, select")) {
      const value = this.#settings.get(input.name);
      if (input.type === "radio") input.checked = input.value === value;
      else if (input.type === "checkbox") input.checked = value !== "0";
      else {
        if (![...input.options].some((option) => option.value === value)) input.add(new Option(value, value));
        input.value = value;
      }
    }
    const size = getComputedStyle(this.#scroll).fontSize;
    const shown = `${Math.round(parseFloat(size))} px`;
    const automatic = this.#settings.get("size") === "auto";
    this.#panel.querySelector("output").textContent = shown;
    this.#panel.querySelector("[data-action=auto-size]").setAttribute("aria-pressed", String(automatic));
  }

  #changed(input) {
    if (input.type === "checkbox") this.#settings.set(input.name, input.checked ? "1" : "0");
    else this.#settings.set(input.name, input.value);
  }

  async #copy(path, stream) {
    const url = new URL(path || ".", location.href);
    const names = ["size", "lines", "font", "position", "align", "color", "background", "names", "partials"];
    const query = this.#settings.query(path ? names : undefined);
    if (stream !== "*") query.set("stream", stream);
    url.search = query.toString();
    url.hash = "";
    const done = await toClipboard(url.href);
    this.#panel.querySelector(".said").textContent = done ? `Copied: ${url.href}` : url.href;
  }
}
