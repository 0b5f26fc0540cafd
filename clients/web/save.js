// The lines as files and on the clipboard: what is offered, how the file is called, and what the page does not
// have any more. Takes a transcript. Knows no socket.

import { toClipboard } from "./clipboard.js";
import { srt, txt, vtt } from "./subtitles.js";

const FORMS = {
  srt: { write: srt, type: "application/x-subrip" },
  vtt: { write: vtt, type: "text/vtt" },
  txt: { write: txt, type: "text/plain" },
};
const KEPT_URL_MS = 10000; // a browser may still be reading it

export class Save {
  #parts; // {stream, streamRow, summary, bound, said, buttons}
  #transcript;

  /** `transcript`: a function that gives the one which is shown. */
  constructor(parts, transcript) {
    this.#parts = parts;
    this.#transcript = transcript;
    parts.stream.addEventListener("change", () => this.#describe());
    for (const button of parts.buttons) {
      button.addEventListener("click", () => (button.value === "copy" ? this.copy() : this.download(button.value)));
    }
  }

  /** To be called when the panel opens: what there is now. */
  refresh() {
    const names = [...new Set(this.#finals("*").map((entry) => entry.stream))].sort();
    const { stream, streamRow } = this.#parts;
    const before = stream.value;
    stream.replaceChildren(...names.map((name) => new Option(name, name)));
    if (names.includes(before)) stream.value = before;
    streamRow.hidden = names.length < 2;
    this.#parts.said.textContent = "";
    this.#describe();
  }

  download(form) {
    const { write, type } = FORMS[form];
    const finals = this.#finals(this.#parts.stream.value);
    const url = URL.createObjectURL(new Blob([write(finals)], { type: `${type};charset=utf-8` }));
    const link = document.createElement("a");
    link.href = url;
    link.download = fileName(this.#parts.stream.value, form);
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), KEPT_URL_MS);
    this.#parts.said.textContent = `Saved as ${link.download}`;
  }

  async copy() {
    const done = await toClipboard(txt(this.#finals(this.#parts.stream.value)));
    this.#parts.said.textContent = done ? "Copied." : "This browser does not let the page copy.";
  }

  #finals(stream) {
    const { entries } = this.#transcript();
    return entries.filter((entry) => entry.kind === "final" && (stream === "*" || entry.stream === stream));
  }

  #describe() {
    const { stream, summary, bound, buttons } = this.#parts;
    const count = this.#finals(stream.value).length;
    const { kept, dropped } = this.#transcript();
    summary.textContent = count === 0 ? "Nothing has been said yet." : `${count} ${count === 1 ? "line" : "lines"}`;
    if (count && stream.value) summary.textContent += ` of ${stream.value}`;
    bound.textContent = dropped
      ? `This page keeps the newest ${kept} lines; ${dropped} older ones are gone.`
      : `This page keeps the newest ${kept} lines.`;
    for (const button of buttons) button.disabled = count === 0;
  }
}

function fileName(stream, form) {
  const now = new Date();
  const two = (value) => String(value).padStart(2, "0");
  const day = `${now.getFullYear()}-${two(now.getMonth() + 1)}-${two(now.getDate())}`;
  return `captions-${stream}-${day}-${two(now.getHours())}${two(now.getMinutes())}.${form}`;
}
