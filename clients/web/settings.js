// How the captions look: from the address (?size=48px&theme=dark), else what this browser keeps, else defaults.
// A setting that is changed here leaves the address, so that it holds. Gives the page's root its data
// attributes and style properties; what they mean is written in the style sheets.

import { recallValue, remember } from "./storage.js";

const KEY = "settings";
const LENGTH = /^(\d{1,4}(?:\.\d{1,3})?)(px|rem|em|vw|vh|vmin|vmax)?$/;

function oneOf(...choices) {
  return (text) => (choices.includes(text) ? text : null);
}

function number(low, high) {
  return (text) => (/^\d{1,4}(\.\d{1,2})?$/.test(text) && text >= low && text <= high ? String(Number(text)) : null);
}

function length(text) {
  const [, value, unit = "px"] = LENGTH.exec(text) ?? [];
  return value === undefined || Number(value) === 0 ? null : value + unit;
}

function color(text) {
  const value = /^(?:[0-9a-f]{3,4}|[0-9a-f]{6}|[0-9a-f]{8})$/i.test(text) ? `#${text}` : text;
  return text.length <= 64 && CSS.supports("color", value) ? value : null;
}

const LIGHT = matchMedia("(prefers-color-scheme: light)");
const CONTRAST = matchMedia("(prefers-contrast: more)");

/** The theme's colours: those that were chosen, or those that the whole system has. */
function look(theme) {
  if (theme !== "auto") return theme;
  if (CONTRAST.matches) return "contrast";
  return LIGHT.matches ? "light" : "dark";
}

/** Every setting: what its text may be (a function that gives the value, or null for one that it cannot be). */
const READ = {
  size: (text) => (text === "auto" ? text : length(text)),
  lines: (text) => (text === "all" ? text : number(1, 50)(text)),
  theme: oneOf("auto", "dark", "light", "contrast"),
  font: (text) => oneOf("sans", "serif", "mono", "legible")(text === "dyslexic" ? "legible" : text),
  position: oneOf("bottom", "middle", "top"),
  align: oneOf("start", "left", "center", "right"),
  color: (text) => (text === "auto" ? text : color(text)),
  background: (text) => (text === "auto" ? text : color(text)),
  names: oneOf("auto", "1", "0"),
  partials: oneOf("1", "0"),
  keys: oneOf("1", "0"),
  edge: oneOf("shadow", "outline", "none"),
  fade: number(0, 3600),
  status: oneOf("1", "0"),
};

export class Settings extends EventTarget {
  #defaults;
  #address = new Map();
  #kept = new Map();

  /** `defaults`: value by name; only these settings exist. `keep`: whether this browser keeps changes. */
  constructor(defaults, { keep }) {
    super();
    this.#defaults = defaults;
    const query = new URLSearchParams(location.search);
    const kept = (keep && recallValue("always", KEY)) || {};
    for (const name of Object.keys(defaults)) {
      const asked = query.has(name) ? READ[name](query.get(name).trim()) : null;
      if (asked !== null) this.#address.set(name, asked);
      const known = typeof kept[name] === "string" ? READ[name](kept[name]) : null;
      if (known !== null) this.#kept.set(name, known);
    }
    this.#apply();
    for (const system of [LIGHT, CONTRAST]) system.addEventListener("change", () => this.#apply());
  }

  get(name) {
    return this.#address.get(name) ?? this.#kept.get(name) ?? this.#defaults[name];
  }

  set(name, text) {
    const value = READ[name](text);
    if (value === null || !(name in this.#defaults)) return;
    if (value === this.#defaults[name]) this.#kept.delete(name);
    else this.#kept.set(name, value);
    this.#changed([name]);
  }

  reset() {
    this.#kept.clear();
    this.#changed(Object.keys(this.#defaults));
  }

  /** What differs from the defaults, as a query. `names`: only these. */
  query(names = Object.keys(this.#defaults)) {
    const differing = names.filter((name) => this.get(name) !== this.#defaults[name]);
    return new URLSearchParams(differing.map((name) => [name, this.get(name)]));
  }

  #changed(names) {
    const url = new URL(location.href);
    for (const name of names) {
      this.#address.delete(name);
      url.searchParams.delete(name);
    }
    if (url.href !== location.href) history.replaceState(null, "", url);
    remember("always", KEY, JSON.stringify(Object.fromEntries(this.#kept)));
    this.#apply();
    this.dispatchEvent(new Event("change"));
  }

  #apply() {
    const root = document.documentElement;
    for (const name of Object.keys(this.#defaults)) {
      const value = this.get(name);
      root.dataset[name] = value;
      const property = `--chosen-${name}`;
      if (["size", "color", "background", "lines"].includes(name) && !["auto", "all"].includes(value)) {
        root.style.setProperty(property, value);
      } else root.style.removeProperty(property);
    }
    if ("theme" in this.#defaults) root.dataset.look = look(this.get("theme"));
  }
}
