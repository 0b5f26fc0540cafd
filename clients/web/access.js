// How this page reaches its daemon: addresses, the token, and what is wrong when nobody answers.
//
// The token comes from the fragment (#token=..., which is never sent to a server) or from a form, is kept in
// sessionStorage, and goes out as a header or as the subprotocol pair of protocol version 1.

import { recall, remember } from "./storage.js";

const KEY = "token";
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}$/; // RFC 9110: what a subprotocol's name may be
const ANSWER_WITHIN_MS = 8000;

/** What a refusal says: plain text, or the message of a JSON object. */
function messageIn(text) {
  try {
    return String(JSON.parse(text).message ?? text);
  } catch {
    return text;
  }
}

export class Access extends EventTarget {
  #token;

  constructor() {
    super();
    const fragment = new URLSearchParams(location.hash.slice(1));
    const given = fragment.get("token");
    this.#token = TOKEN.test(given ?? "") ? given : recall("tab", KEY);
    if (given !== null) {
      remember("tab", KEY, this.#token);
      history.replaceState(null, "", location.pathname + location.search); // not to be copied with the address
    }
  }

  get hasToken() {
    return this.#token !== null;
  }

  /** Takes a token; false for text that cannot be one. Whoever waits for "token" tries again. */
  give(text) {
    const token = text.trim();
    if (!TOKEN.test(token)) return false;
    this.#token = token;
    remember("tab", KEY, token);
    this.dispatchEvent(new Event("token"));
    return true;
  }

  /** A websocket of the daemon. `query`: values; null and undefined are left out. */
  socket(path, query) {
    const url = new URL(path, location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    url.hash = "";
    url.search = "";
    for (const [name, value] of Object.entries(query)) {
      if (value !== null && value !== undefined) url.searchParams.set(name, String(value));
    }
    return new WebSocket(url.href, this.#token ? ["captiond", `token.${this.#token}`] : []);
  }

  /** The answer to a GET. Throws when nobody answers in time. */
  async get(path) {
    const stop = new AbortController();
    const timer = setTimeout(() => stop.abort(), ANSWER_WITHIN_MS);
    try {
      const headers = this.#token ? { Authorization: `Bearer ${this.#token}` } : {};
      const answer = await fetch(path, { headers, cache: "no-store", signal: stop.signal });
      return { status: answer.status, text: await answer.text() };
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * Why a websocket of `path` was not let in; a browser does not tell, but the same address asked plainly does.
   * Gives {kind: "lost" | "open"} | {kind: "token", wrong} | {kind: "refused", message} |
   * {kind: "unready", reasons}.
   */
  async inquire(path) {
    let answer;
    try {
      answer = await this.get(path);
      if (answer.status === 503) return { kind: "unready", reasons: await this.#reasons(messageIn(answer.text)) };
    } catch {
      return { kind: "lost" };
    }
    if (answer.status === 401) return { kind: "token", wrong: this.hasToken };
    if (answer.status === 403 || answer.status === 421) return { kind: "refused", message: answer.text.trim() };
    return { kind: "open" };
  }

  /** What /readyz says is missing; `otherwise` when it says nothing. */
  async #reasons(otherwise) {
    const { text } = await this.get("readyz");
    const { reasons } = JSON.parse(text);
    return reasons?.length ? reasons.map(String) : [otherwise.trim()];
  }
}
