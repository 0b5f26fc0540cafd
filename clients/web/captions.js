// The captions page: puts its parts together. Query: stream, history, and every setting that the help names.

import { Access } from "./access.js";
import { Connection } from "./connection.js";
import { Controls } from "./controls.js";
import { Feed } from "./feed.js";
import { Follow } from "./follow.js";
import { listenForKeys } from "./keys.js";
import { Panels } from "./panels.js";
import { Picker } from "./picker.js";
import { watchStreams } from "./presence.js";
import { hideBarWhenStill, offerFullScreen, toggleFullScreen } from "./screen.js";
import { Settings } from "./settings.js";
import { Status } from "./status.js";
import { Transcript } from "./transcript.js";

const KEPT_LINES = 2000; // on the page and in its files; the oldest go
const KEPT_TRANSCRIPTS = 6; // of selections that were shown before
const LOOK_MS = { open: 3000, visible: 15000, hidden: 60000 }; // between looks at the list of streams
const STREAM = /^(?:\*|[A-Za-z0-9._-]{1,64})$/;

const element = (id) => document.getElementById(id);
const asked = new URLSearchParams(location.search);
const history_ = /^\d{1,4}$/.test(asked.get("history") ?? "") ? Number(asked.get("history")) : undefined;
const bounds = { kept: KEPT_LINES, history: history_ };

const settings = new Settings(
  {
    size: "auto",
    lines: "all",
    theme: "auto",
    font: "sans",
    position: "bottom",
    align: "start",
    color: "auto",
    background: "auto",
    names: "auto",
    partials: "1",
    keys: "1",
  },
  { keep: true },
);
const access = new Access();
const status = new Status(element("status"), {
  title: element("empty-title"),
  detail: element("empty-detail"),
  trouble: element("trouble"),
});
const feed = new Feed(access, status, { finals: element("finals"), open: element("open"), bounds });
const panels = new Panels(document.querySelectorAll("[aria-controls]"));
const follow = new Follow(element("scroll"), element("lines"), showFollowing);
const transcripts = new Map(); // selection -> transcript, the last one shown at the end
let shown = STREAM.test(asked.get("stream") ?? "") ? asked.get("stream") : "*";
let unseen = 0; // lines that came while somebody read back

// --- streams ------------------------------------------------------------------------------------------

const picker = new Picker(
  { name: element("stream-name"), mark: element("stream-mark"), list: element("stream-list"), none: element("no-streams") },
  { chosen: shown, onChoose: choose },
);
const list = watchStreams(access, feed.presence, {
  interval: () => (document.hidden ? LOOK_MS.hidden : panels.open === "streams" ? LOOK_MS.open : LOOK_MS.visible),
  onMissed: () => feed.suspect(),
});
let others = null; // listens to all streams while one is shown and the choice is open

function show(stream) {
  const before = transcripts.get(stream);
  const transcript = before ?? new Transcript(stream, bounds);
  if (!before && !transcripts.size) transcript.restore();
  transcripts.delete(stream);
  transcripts.set(stream, transcript);
  if (transcripts.size > KEPT_TRANSCRIPTS) transcripts.delete(transcripts.keys().next().value);
  shown = stream;
  picker.choose(stream);
  feed.select(stream, transcript);
  picker.show(feed.presence.list());
  follow.live();
}

function choose(stream) {
  if (stream === shown) return;
  const url = new URL(location.href);
  if (stream === "*") url.searchParams.delete("stream");
  else url.searchParams.set("stream", stream);
  history.replaceState(null, "", url);
  show(stream);
  listenToOthers();
}

function listenToOthers() {
  others?.stop();
  others = null;
  if (panels.open !== "streams" || shown === "*") return;
  const query = () => ({ stream: "*", history: 0 });
  const onEvent = (event) => event.stream !== shown && feed.presence.take(event);
  others = new Connection(access, { query, onEvent, onState: () => {} });
  others.start();
}

// --- what is shown --------------------------------------------------------------------------------------

function showFollowing(following) {
  unseen = following ? 0 : unseen;
  element("follow").hidden = following;
  countUnseen();
}

function countUnseen() {
  element("unseen").textContent = unseen ? `${unseen} new` : "";
}

function showLines() {
  const { entries } = feed.transcript;
  const several = new Set(feed.presence.list().map((one) => one.name)).size > 1;
  document.documentElement.classList.toggle("several", shown === "*" && several);
  document.documentElement.classList.toggle("empty", feed.empty);
  element("dropped").hidden = !feed.transcript.dropped;
  const newest = entries.at(-1);
  if (newest === showLines.newest) return;
  showLines.newest = newest;
  if (!follow.following) unseen += 1;
  countUnseen();
}

function showStreams() {
  picker.show(feed.presence.list());
  showLines();
}

function showState({ detail }) {
  const asking = detail.kind === "token";
  element("token-form").hidden = !asking;
  if (asking) {
    element("token-said").textContent = detail.wrong ? "That token was not accepted." : "";
    element("token").focus();
  }
  if (detail.kind === "open") element("server").textContent = `${detail.server}, model ${detail.model}`;
  const name = shown === "*" ? "Live captions" : `${shown} · Live captions`;
  document.title = detail.kind === "open" ? name : `(${status.state}) ${name}`;
  showLines();
}

// --- the bar ----------------------------------------------------------------------------------------------

const controls = new Controls(element("settings"), settings, element("scroll"), () => shown);
// What most people never open is loaded when it is opened.
const later = {
  async save() {
    const { Save } = await import("./save.js");
    const parts = {
      stream: element("save-stream"),
      streamRow: element("save-stream-row"),
      summary: element("save-summary"),
      bound: element("save-bound"),
      said: element("save-said"),
      buttons: [...document.querySelectorAll("#save button[value]")],
    };
    return new Save(parts, () => feed.transcript);
  },
  async microphone() {
    const { Microphone } = await import("./microphone.js");
    const parts = {
      button: element("microphone-button"),
      toggle: element("microphone-toggle"),
      said: element("microphone-said"),
      name: element("microphone-name"),
      device: element("microphone-device"),
      deviceRow: element("microphone-device-row"),
      meter: element("microphone-meter"),
    };
    const onAir = (stream) => shown !== "*" && choose(stream);
    return new Microphone(access, parts, { show: () => panels.show("microphone"), onAir });
  },
};

/** Makes a part once. */
function part(name) {
  part[name] ??= later[name]();
  return part[name];
}

panels.addEventListener("open", ({ detail }) => {
  if (detail === "settings") controls.show();
  if (detail === "save") part("save").then((save) => save.refresh());
  if (detail === "microphone") part("microphone");
  if (detail === "streams") list.now();
  listenToOthers();
});
panels.addEventListener("close", listenToOthers);
feed.addEventListener("line", showLines);
feed.addEventListener("state", showState);
feed.presence.addEventListener("change", showStreams);
element("follow").addEventListener("click", () => follow.live());
element("clear").addEventListener("click", () => {
  feed.clear();
  part("save").then((save) => save.refresh());
});
element("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const taken = access.give(element("token").value);
  element("token-said").textContent = taken ? "" : "A token has letters, digits and signs, and no spaces.";
  if (taken) list.now();
});
addEventListener("pagehide", () => feed.transcript.save());

offerFullScreen(element("full-screen"));
hideBarWhenStill();
listenForKeys(
  {
    f: toggleFullScreen,
    "+": () => controls.resize(1),
    "=": () => controls.resize(1),
    "-": () => controls.resize(-1),
    0: () => settings.set("size", "auto"),
    l: () => follow.live(),
    m: () => part("microphone").then((microphone) => microphone.toggle()),
    c: () => panels.toggle("streams"),
    d: () => panels.toggle("save"),
    s: () => panels.toggle("settings"),
    t: () => controls.turnTheme(),
    "?": () => panels.toggle("help"),
  },
  () => settings.get("keys") === "1",
);

show(shown);
