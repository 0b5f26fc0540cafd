// Shortcuts of one key, for those who want them: off in fields, with modifiers, and where the setting says so.

/** `actions`: function by key. `enabled()`: whether shortcuts are wanted. */
export function listenForKeys(actions, enabled) {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || !enabled()) return;
    if (event.target.closest("input:not([type=radio], [type=checkbox]), select, textarea")) return;
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}
