"""``encoding=webm`` as a true browser makes it: Chromium's MediaRecorder, sent as it records."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.chromium import chromium_page
from tests.browser.reading import needs_chromium
from tests.browser.test_microphone import playing, write_wav
from tests.daemon.house import FINAL, audio_of, house
from tests.sim.scripted import say

pytestmark = needs_chromium
pytest.importorskip("av", reason="needs PyAV: pip install 'captiond[av]'")

SAID = "one two three four five six seven eight"
SCRIPT = say(SAID, at=24_000)
RECORD = """
(async () => {
  window.told = [];
  const sound = await navigator.mediaDevices.getUserMedia({ audio: true });
  const recorder = new MediaRecorder(sound, { mimeType: "audio/webm;codecs=opus" });
  const socket = new WebSocket(`ws://${location.host}/v1/speak?stream=hall&encoding=webm`);
  socket.onmessage = (message) => told.push(JSON.parse(message.data));
  socket.onclose = (event) => { window.hungUp = event.code; };
  recorder.ondataavailable = (event) => socket.send(event.data);
  recorder.onstop = () => setTimeout(() => socket.send(JSON.stringify({ type: "end" })));
  socket.onopen = () => recorder.start(100);
  window.recorder = recorder;
})()
"""


async def test_what_a_browser_records_is_captioned(tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "said.wav", audio_of(SCRIPT))
    async with house(SCRIPT) as home, home.viewer("stream=hall") as viewer:
        async with chromium_page(home.address, *playing(wav)) as page:
            await page.value(RECORD)
            await viewer.until(FINAL)
            await page.value("recorder.stop()")
            await page.until("window.hungUp")
            assert await page.value("hungUp") == 1000
            assert await page.value("told.filter((event) => event.type === 'error')") == []
        await viewer.until("stream.closed")
        # The recorder starts a moment after the microphone, so that the script's times are not quite its own.
        assert " ".join(viewer.texts()[0].split()[1:-1]) in SAID
        assert len(viewer.texts()[0].split()) >= 5
        assert not viewer.all("audio.lost")
