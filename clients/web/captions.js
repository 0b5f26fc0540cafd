// Live captions of one captiond: events of /v1/captions in, lines of text out.
// Query: stream (a name or *), history; on /overlay also lines, size, color, align. A token goes into the
// fragment (#token=...), which is never sent to a server. Text from the wire is only ever set as textContent.
"use strict";

const LONGEST_HISTORY = 1000; // what the daemon sends at most
const KEPT_LINES = 2000; // on the page; the oldest go
const FIRST_DELAY_MS = 300;
const LONGEST_DELAY_MS = 8000;
const SILENT_MS = 15000; // a caption that stays open without news for so long is no longer live

const query = new URLSearchParams(location.search);
const overlay = document.documentElement.classList.contains("overlay");
const stream = query.get("stream") || "*";
const token = new URLSearchParams(location.hash.slice(1)).get("token");
const element = (id) => document.getElementById(id);
const finals = element("finals");
const scroll = element("scroll");
const open = element("open");
const follow = element("follow");

const state = {
  epoch: null,
  told: new Map(), // stream -> newest seq shown
  skip: new Map(), // stream -> up to where a resumed connection repeats what was shown
  partials: new Map(), // "stream/segment" -> event
  behind: new Map(), // stream -> ms, while the daemon says that it is behind
  names: new Set(),
  delay: FIRST_DELAY_MS,
  connected: false,
};

function address() {
  const base = new URL("v1/captions", location.href);
  base.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  base.hash = "";
  base.search = "";
  const asked = base.searchParams;
  asked.set("stream", stream);
  if (state.epoch === null) {
    asked.set("history", query.get("history") || (overlay ? "0" : "100"));
  } else {
    asked.set("history", String(LONGEST_HISTORY));
    asked.set("epoch", state.epoch);
    // A seq counts one stream; of all streams the whole history is asked, and what was shown is skipped.
    if (stream !== "*") asked.set("since", String(state.told.get(stream) || 0));
  }
  return base.href;
}

function connect() {
  const socket = token
    ? new WebSocket(address(), ["captiond", `token.${token}`])
    : new WebSocket(address());
  socket.onmessage = (message) => take(JSON.parse(message.data));
  socket.onclose = (closed) => {
    state.connected = false;
    state.partials.clear();
    state.behind.clear();
    draw();
    if (closed.code === 1000) return status("lost", "the daemon has nothing more to say");
    if (closed.code === 1008) return status("lost", `refused${closed.reason ? `: ${closed.reason}` : ""}`);
    status("lost", "disconnected, trying again");
    setTimeout(connect, state.delay * (0.5 + Math.random() / 2));
    state.delay = Math.min(LONGEST_DELAY_MS, 2 * state.delay);
  };
}

function take(event) {
  if (event.type === "hello") return greet(event);
  if (event.type === "error") return status("lost", event.message);
  if (event.type === "stream.opened") state.skip.delete(event.stream); // its numbering may begin anew
  if (event.seq <= (state.skip.get(event.stream) || 0)) return undefined;
  state.told.set(event.stream, event.seq);
  state.delay = FIRST_DELAY_MS;
  if (event.stream) state.names.add(event.stream);
  const segment = `${event.stream}/${event.segment}`;
  switch (event.type) {
    case "speech.started":
      state.partials.set(segment, { stream: event.stream, committed: "", tentative: "", at: Date.now() });
      break;
    case "transcript.partial":
      state.partials.set(segment, { ...event, at: Date.now() });
      break;
    case "transcript.final":
      state.partials.delete(segment);
      addLine(event);
      break;
    case "transcript.suppressed":
      state.partials.delete(segment);
      break;
    case "stream.closed":
      for (const key of state.partials.keys()) {
        if (key.startsWith(`${event.stream}/`)) state.partials.delete(key);
      }
      state.behind.delete(event.stream);
      break;
    case "lag":
      if (event.level === "ok") state.behind.delete(event.stream);
      else state.behind.set(event.stream, event.behind_ms);
      break;
    case "audio.lost":
      addNote(`${((event.end_ms - event.start_ms) / 1000).toFixed(1)} s of sound were lost here`);
      break;
    default:
  }
  return draw();
}

function greet(hello) {
  const same = state.epoch === String(hello.epoch);
  if (state.epoch !== null && hello.gap) addNote("some captions may be missing here");
  state.skip = same ? new Map(state.told) : new Map();
  if (!same) state.told = new Map();
  state.epoch = String(hello.epoch);
  state.connected = true;
  draw();
}

function words(text, kind) {
  const span = document.createElement("span");
  if (kind) span.className = kind;
  span.textContent = text;
  return span;
}

function line(event) {
  const row = document.createElement("p");
  row.className = "line";
  if (stream === "*" && state.names.size > 1) row.append(words(event.stream, "name"));
  return row;
}

function addLine(event) {
  if (!event.text) return;
  const row = line(event);
  row.append(words(event.text));
  append(row);
}

function addNote(text) {
  const row = document.createElement("p");
  row.className = "line gap";
  row.textContent = text;
  append(row);
}

function append(row) {
  finals.append(row);
  const kept = overlay ? Number(query.get("lines")) || 2 : KEPT_LINES;
  while (finals.childElementCount > kept) finals.firstElementChild.remove();
}

let following = true;

function draw() {
  open.replaceChildren(
    ...[...state.partials.values()].map((event) => {
      const row = line(event);
      if (event.committed || event.tentative) {
        row.append(words(event.committed), words(event.tentative, "tentative"));
      } else {
        row.append(words("…", "waiting"));
      }
      return row;
    }),
  );
  if (following) scroll.scrollTop = scroll.scrollHeight;
  if (state.connected) {
    const behind = Math.max(0, ...state.behind.values());
    if (behind) status("behind", `${(behind / 1000).toFixed(1)} s behind`);
    else status("live", "live");
  }
}

function status(kind, text) {
  const shown = element("status");
  if (shown.dataset.state === kind && shown.textContent === text) return; // said once, not at each event
  shown.dataset.state = kind;
  shown.textContent = text;
}

function style() {
  const root = document.documentElement.style;
  const rules = [
    ["size", /^\d{1,3}(px|vw|vh|rem)$/],
    ["color", /^(#?[0-9a-f]{3,8}|[a-z]{3,20})$/i],
    ["align", /^(left|center|right)$/],
  ];
  for (const [name, allowed] of rules) {
    const value = query.get(name);
    if (!value || !allowed.test(value)) continue;
    const hex = name === "color" && /^[0-9a-f]{3,8}$/i.test(value);
    root.setProperty(`--overlay-${name}`, hex ? `#${value}` : value);
  }
}

if (follow) {
  scroll.addEventListener("scroll", () => {
    following = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 80;
    follow.hidden = following;
  });
  follow.addEventListener("click", () => {
    following = true;
    follow.hidden = true;
    draw();
  });
  addEventListener("resize", draw);
}

// A stream whose speaker vanished leaves its open line; it is taken down when nothing more comes.
setInterval(() => {
  for (const [key, event] of state.partials) {
    if (Date.now() - event.at > SILENT_MS) state.partials.delete(key);
  }
  draw();
}, 5000);

style();
connect();
