// The microphone's panel and its button: from a person's wish to speak to a stream that is spoken into.
//
// States: off · starting · on · lost (the connection; the sound is kept) · ending. Everything that goes wrong is
// said in the panel, which opens where it was closed.

import { microphones, openMicrophone, unavailable } from "./capture.js";
import { Speaker } from "./speaker.js";
import { recall, remember } from "./storage.js";

const NAME = "microphone";
const FLOOR_DB = -60; // the quietest level that the meter shows
const SAID = {
  off: "Off",
  starting: "Starting",
  on: "On air",
  lost: "Connection lost. What you say is kept and sent later.",
  ending: "Finishing",
};

export class Microphone {
  #access;
  #parts; // {button, toggle, said, name, device, deviceRow, meter}
  #show; // opens the panel
  #onAir; // (stream) when it begins to be spoken into
  #state = "off";
  #microphone = null;
  #speaker = null;

  constructor(access, parts, { show, onAir }) {
    this.#access = access;
    this.#parts = parts;
    this.#show = show;
    this.#onAir = onAir;
    // What was typed while this part was loading stays.
    parts.name.value ||= recall("always", NAME) ?? `microphone-${Math.random().toString(36).slice(2, 6)}`;
    parts.toggle.addEventListener("click", () => this.toggle());
    addEventListener("pagehide", () => this.#speaker?.end());
    const reason = unavailable();
    parts.toggle.disabled = reason !== null;
    parts.button.classList.toggle("unavailable", reason !== null);
    this.#set("off", reason);
  }

  toggle() {
    if (this.#state === "off") return this.start();
    return this.#state === "ending" ? undefined : this.stop();
  }

  async start() {
    if (this.#state !== "off") return;
    const { name } = this.#parts;
    if (unavailable()) return this.#fail(unavailable());
    if (!name.checkValidity()) {
      return this.#fail("A stream's name has 1 to 64 letters, digits, dots, dashes or underscores.");
    }
    remember("always", NAME, name.value);
    this.#set("starting");
    try {
      const opened = await openMicrophone(this.#parts.device.value, {
        onSound: (samples, level) => this.#hear(samples, level),
        onGone: () => this.stop("The microphone was taken away."),
      });
      if (this.#state !== "starting") return opened.close(); // stopped meanwhile
      this.#microphone = opened;
    } catch (error) {
      return this.#fail(error.message);
    }
    const onState = (state, detail) => this.#follow(state, detail);
    const rate = this.#microphone.rate;
    this.#speaker = new Speaker(this.#access, { stream: name.value, rate, onState });
    await this.#listDevices();
  }

  /** Ends the stream; what was said is still captioned. */
  async stop(why = null) {
    if (this.#state === "off" || this.#state === "ending") return;
    this.#set("ending", why);
    const microphone = this.#microphone;
    this.#microphone = null;
    await microphone?.close();
    if (this.#speaker) this.#speaker.end();
    else this.#set("off", why);
    if (why) this.#show();
  }

  #hear(samples, level) {
    this.#speaker?.write(samples);
    const db = 20 * Math.log10(Math.max(level, 1e-6));
    const share = Math.max(0, Math.min(1, 1 - db / FLOOR_DB));
    this.#parts.meter.style.setProperty("--level", share.toFixed(2));
    this.#parts.button.style.setProperty("--level", share.toFixed(2));
    this.#parts.meter.setAttribute("aria-valuenow", String(Math.round(db < FLOOR_DB ? FLOOR_DB : db)));
  }

  /** What the speaker says about its stream. */
  #follow(state, detail) {
    if (state === "speaking") {
      if (this.#state !== "ending") this.#set("on");
      this.#onAir(detail.stream);
    }
    if (state === "lost" && this.#state !== "ending") this.#set("lost", detail.message);
    if (state === "ended") this.#close(this.#lossSaid());
    if (state === "failed") this.#fail(detail.message);
  }

  #lossSaid() {
    const lost_ms = this.#speaker?.lost_ms ?? 0;
    return lost_ms ? `Off. ${(lost_ms / 1000).toFixed(1)} s could not be sent and were lost.` : null;
  }

  #fail(message) {
    this.#close(message);
    this.#show();
  }

  #close(said) {
    this.#microphone?.close();
    this.#microphone = this.#speaker = null;
    this.#set("off", said);
  }

  #set(state, said = null) {
    this.#state = state;
    const { button, toggle, said: line, name, device, meter } = this.#parts;
    const off = state === "off";
    button.dataset.state = state;
    button.setAttribute("aria-label", off ? "Microphone" : "Microphone: on");
    toggle.textContent = off ? "Start speaking" : "Stop";
    toggle.dataset.state = state;
    line.textContent = said ?? SAID[state];
    line.classList.toggle("trouble", (off && said !== null) || state === "lost");
    name.disabled = device.disabled = !off;
    meter.hidden = off;
  }

  async #listDevices() {
    const { device, deviceRow } = this.#parts;
    const known = await microphones();
    const chosen = device.value;
    device.replaceChildren(...[{ id: "", name: "The browser's choice" }, ...known].map(option));
    device.value = known.some((one) => one.id === chosen) ? chosen : "";
    deviceRow.hidden = known.length < 2;
  }
}

function option({ id, name }) {
  const element = document.createElement("option");
  element.value = id;
  element.textContent = name;
  return element;
}
