// The overlay: the last lines and nothing else, on a transparent page, for streaming software and kiosks. Query:
// stream, history and the settings below. It fades out when nothing has been said for a while.

import { Access } from "./access.js";
import { Feed } from "./feed.js";
import { Follow } from "./follow.js";
import { watchStreams } from "./presence.js";
import { Settings } from "./settings.js";
import { Status } from "./status.js";

const MOST_LINES = 50;
const FADING_MS = 700; // as long as the style sheet takes
const LOOK_MS = 15000; // between looks whether the daemon still answers
const STREAM = /^(?:\*|[A-Za-z0-9._-]{1,64})$/;

const element = (id) => document.getElementById(id);
const asked = new URLSearchParams(location.search);
const stream = STREAM.test(asked.get("stream") ?? "") ? asked.get("stream") : "*";

const settings = new Settings(
  {
    size: "auto",
    lines: "2",
    font: "sans",
    position: "bottom",
    align: "center",
    color: "auto",
    background: "auto",
    names: "auto",
    partials: "1",
    edge: "shadow",
    fade: "10",
    status: "0",
  },
  { keep: false },
);
const kept = Math.min(MOST_LINES, Number(settings.get("lines")) || MOST_LINES); // a row has a line or more
const history = /^\d{1,4}$/.test(asked.get("history") ?? "") ? Number(asked.get("history")) : 0;

const access = new Access();
const status = new Status(element("status"), null);
const finals = element("finals");
const feed = new Feed(access, status, { finals, open: element("open"), bounds: { kept, history } });
const fade_ms = Number(settings.get("fade")) * 1000;
const root = document.documentElement;
new Follow(element("scroll"), element("lines"), () => {});

let timer = 0;
let fading = []; // rows that are on their way out

function showLines() {
  const names = new Set(feed.presence.list().map((one) => one.name));
  root.classList.toggle("several", stream === "*" && names.size > 1);
  for (const row of fading) row.remove();
  fading = [];
  root.classList.remove("faded");
  clearTimeout(timer);
  if (fade_ms) timer = setTimeout(fadeOut, fade_ms);
}

function fadeOut() {
  fading = [...finals.children];
  root.classList.add("faded");
  timer = setTimeout(() => feed.clear(), FADING_MS);
}

feed.addEventListener("line", showLines);
watchStreams(access, feed.presence, { interval: () => LOOK_MS, onMissed: () => feed.suspect() });
feed.select(stream);
