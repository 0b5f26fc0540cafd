// What the browser keeps for this page: text under a key, in localStorage or sessionStorage. A browser that
// refuses (private windows, a full store) is a browser that forgets, and no error.

const PREFIX = "captiond.";

/** The stores by how long they keep: "always" in this browser, "tab" until the tab is closed. */
function store(kept) {
  return kept === "always" ? window.localStorage : window.sessionStorage;
}

export function recall(kept, key) {
  try {
    return store(kept).getItem(PREFIX + key);
  } catch {
    return null;
  }
}

/** `value` null forgets the key. */
export function remember(kept, key, value) {
  try {
    if (value === null) store(kept).removeItem(PREFIX + key);
    else store(kept).setItem(PREFIX + key, value);
  } catch {
    // Forgotten at the next load; nothing that is shown now depends on it.
  }
}

/** A value that was kept as JSON, or null. */
export function recallValue(kept, key) {
  try {
    return JSON.parse(recall(kept, key));
  } catch {
    return null;
  }
}
