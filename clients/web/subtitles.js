// Finals as files: SubRip, WebVTT, or plain text. Takes entries of one stream; gives text. The same cues as
// `captiond listen --format srt`: at most two lines each, a longer final cut between words and its time shared
// by letters. Knows no page.

const LINE_LETTERS = 42; // what broadcasters' guides allow a line
const CUE_LETTERS = 2 * LINE_LETTERS - 8; // leaves room for a line that breaks before a long word

/** On one line: control characters and line ends become spaces. */
function printable(text) {
  return text.replace(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, " ").replace(/\p{Cs}/gu, "").trim();
}

/** `text` in lines of at most `width` letters; only a word that is longer than a line is cut. */
function wrap(text, width) {
  const lines = [];
  let line = [];
  for (const word of text.split(/\s+/).filter(Boolean)) {
    let letters = [...word];
    if (line.length && line.length + 1 + letters.length > width) {
      lines.push(line);
      line = [];
    }
    if (line.length) line.push(" ");
    for (; line.length + letters.length > width; line = []) {
      lines.push([...line, ...letters.slice(0, width - line.length)]);
      letters = letters.slice(width - line.length);
    }
    line.push(...letters);
  }
  if (line.length) lines.push(line);
  return lines.map((one) => one.join(""));
}

function cues({ text, start_ms, end_ms }) {
  const parts = wrap(printable(text), CUE_LETTERS);
  const sizes = parts.map((part) => [...part].length);
  const letters = sizes.reduce((sum, size) => sum + size, 0);
  let before = 0;
  const starts = sizes.map((size) => {
    const start = start_ms + Math.floor(((end_ms - start_ms) * before) / letters);
    before += size;
    return start;
  });
  return parts.map((part, at) => ({ start: starts[at], end: starts[at + 1] ?? end_ms, text: part }));
}

function clock(milliseconds, point) {
  const two = (value) => String(value).padStart(2, "0");
  const seconds = Math.floor(milliseconds / 1000);
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return `${two(h)}:${two(m)}:${two(s)}${point}${String(milliseconds % 1000).padStart(3, "0")}`;
}

/** Times count from the stream's opening; a stream that was opened again goes on after what came before. */
function timed(finals) {
  let offset = 0;
  let newest = 0;
  let began = 0;
  return finals.map((final) => {
    if (final.start_ms < began) offset += newest;
    if (final.start_ms < began) newest = 0;
    began = final.start_ms;
    newest = Math.max(newest, final.end_ms);
    return { ...final, start_ms: final.start_ms + offset, end_ms: final.end_ms + offset };
  });
}

export function srt(finals) {
  return timed(finals)
    .flatMap(cues)
    .map(({ start, end, text }, at) => {
      const lines = wrap(text, LINE_LETTERS).join("\n").replaceAll("-->", "->"); // would read as a line of times
      return `${at + 1}\n${clock(start, ",")} --> ${clock(end, ",")}\n${lines}\n\n`;
    })
    .join("");
}

export function vtt(finals) {
  const escape = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const body = timed(finals)
    .flatMap(cues)
    .map(({ start, end, text }) => {
      const lines = escape(wrap(text, LINE_LETTERS).join("\n"));
      return `${clock(start, ".")} --> ${clock(end, ".")}\n${lines}\n\n`;
    });
  return `WEBVTT\n\n${body.join("")}`;
}

/** One line a final; with their streams' names where there are several. */
export function txt(finals) {
  const several = new Set(finals.map((final) => final.stream)).size > 1;
  return finals.map(({ stream, text }) => `${several ? `${stream}: ` : ""}${printable(text)}\n`).join("");
}
