// The whole screen for the captions, which then does not go dark. What a browser cannot do is left out.

let awake = null; // the wake lock

async function stayAwake() {
  if (!document.fullscreenElement || document.hidden || !navigator.wakeLock) return;
  try {
    awake = await navigator.wakeLock.request("screen"); // let go by the browser when the page is hidden
  } catch {
    awake = null; // the battery is low, or it is not allowed here
  }
}

/** `button`: turns the whole screen on and off; hidden where there is no such thing. */
export function offerFullScreen(button) {
  button.hidden = !document.fullscreenEnabled;
  button.addEventListener("click", toggleFullScreen);
  document.addEventListener("visibilitychange", stayAwake);
  document.addEventListener("fullscreenchange", () => {
    const full = document.fullscreenElement !== null;
    button.setAttribute("aria-pressed", String(full));
    document.documentElement.classList.toggle("full", full);
    if (full) return stayAwake();
    awake?.release();
    awake = null;
    return undefined;
  });
}

export function toggleFullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else if (document.fullscreenEnabled) document.documentElement.requestFullscreen();
}

/** In full screen the bar goes away when nothing has moved for a while. One timer, however much moves. */
export function hideBarWhenStill(after_ms = 4000) {
  const root = document.documentElement;
  let timer = 0;
  function moved() {
    root.classList.remove("still");
    clearTimeout(timer);
    timer = setTimeout(() => root.classList.add("still"), after_ms);
  }
  for (const kind of ["pointermove", "pointerdown", "keydown", "focusin"]) {
    addEventListener(kind, moved, { passive: true });
  }
  moved();
}
