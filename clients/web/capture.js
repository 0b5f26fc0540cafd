// The microphone: asks for it, and gives its sound as 16-bit samples at the browser's own rate. Says in plain
// words why there is none. Knows no socket and no element.

const DONE_WITHIN_MS = 500;
const STARTED_WITHIN_MS = 6000;
const WHY = {
  NotAllowedError: "This page may not use the microphone. Allow it in the browser's settings for this address.",
  SecurityError: "This page may not use the microphone. Allow it in the browser's settings for this address.",
  NotFoundError: "No microphone was found. Connect one and try again.",
  OverconstrainedError: "The chosen microphone is not there any more. Choose another one.",
  NotReadableError: "The microphone is in use by another program, or it has failed.",
  AbortError: "The microphone is in use by another program, or it has failed.",
};

/** Why this page can never have a microphone, or null. */
export function unavailable() {
  if (!window.isSecureContext) {
    return (
      "Browsers give the microphone only to pages from https:// or from this machine (localhost). " +
      "Open this page in one of these ways."
    );
  }
  const able = navigator.mediaDevices?.getUserMedia && window.AudioWorkletNode;
  return able ? null : "This browser cannot record sound for a page. A newer one can.";
}

/** The microphones by id and name; names are known once one has been allowed. */
export async function microphones() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  return devices
    .filter((device) => device.kind === "audioinput" && device.deviceId)
    .map(({ deviceId, label }, at) => ({ id: deviceId, name: label || `Microphone ${at + 1}` }));
}

/**
 * Opens a microphone ("" for the browser's choice). `onSound(samples, level)` gets pieces of 50 ms, `onGone()`
 * is told when the device is taken away. Gives {rate, close}. Throws an Error whose message is for people.
 */
export async function openMicrophone(device, { onSound, onGone }) {
  let stream;
  try {
    const audio = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: true };
    if (device) audio.deviceId = { exact: device };
    stream = await navigator.mediaDevices.getUserMedia({ audio });
  } catch (error) {
    throw new Error(WHY[error.name] ?? `The microphone cannot be opened (${error.message}).`, { cause: error });
  }
  const context = new AudioContext({ latencyHint: "interactive" });
  try {
    await context.audioWorklet.addModule(new URL("capture-worklet.js", import.meta.url));
    await started(context);
  } catch (error) {
    stop(stream, context);
    throw new Error(`The microphone's sound cannot be read (${error.message}).`, { cause: error });
  }
  const node = new AudioWorkletNode(context, "capture", { channelCount: 1, channelCountMode: "explicit" });
  let finished = () => {};
  node.port.onmessage = ({ data }) => (data.done ? finished() : onSound(data.samples, data.level));
  context.createMediaStreamSource(stream).connect(node).connect(context.destination); // the node gives silence
  for (const track of stream.getTracks()) track.addEventListener("ended", onGone, { once: true });

  async function close() {
    const done = new Promise((resolve) => {
      finished = resolve;
      setTimeout(resolve, DONE_WITHIN_MS);
    });
    node.port.postMessage("finish");
    await done;
    node.port.onmessage = null;
    stop(stream, context);
  }
  return { rate: context.sampleRate, close };
}

/** Where a machine has no working sound system, a browser waits for ever. */
async function started(context) {
  let timer = 0;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("the browser's sound does not start")), STARTED_WITHIN_MS);
  });
  await Promise.race([context.resume(), late]);
  clearTimeout(timer);
}

function stop(stream, context) {
  for (const track of stream.getTracks()) track.stop();
  context.close();
}
