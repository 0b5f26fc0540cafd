"""The browser's microphone: its words appear on the page, and over a broken line none is lost or doubled."""

from __future__ import annotations

import asyncio
import base64
import wave
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from captiond_engine.types import Float32Array

from tests.browser.chromium import Page, chromium_page
from tests.browser.reading import LINES, LIVE, lines, needs_chromium, visible
from tests.clients.test_with_daemon import line_to
from tests.daemon.house import audio_of, configured, house, s16
from tests.sim.scripted import say

pytestmark = needs_chromium

SCRIPT = (
    *say("turn on the lights"),
    *say("what is the time", at=5 * 16_000),
    *say("play some music", at=10 * 16_000),
)
SAID = ["turn on the lights", "what is the time", "play some music"]
FAKE_DEVICE = "--use-fake-device-for-media-stream"
YES = "--use-fake-ui-for-media-stream"
ON_AIR = "document.getElementById('microphone-button').dataset.state"
TOLD = "document.getElementById('microphone-said').textContent"
# A Speaker of the page's own, fed with what is in window.sound, without a device.
SPEAKER = """
(async () => {
  const { Access } = await import("/access.js");
  const { Speaker } = await import("/speaker.js");
  window.states = [];
  window.speaker = new Speaker(new Access(), {
    stream: "hall",
    rate: 16000,
    onState: (state, detail) => states.push(detail?.message ? `${state}: ${detail.message}` : state),
  });
})()
"""
WRITE = """
(() => {
  const bytes = Uint8Array.from(atob("%s"), (letter) => letter.charCodeAt(0));
  speaker.write(new Int16Array(bytes.buffer));
})()
"""


def write_wav(path: Path, pcm: Float32Array) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(s16(pcm))
    return path


def playing(path: Path) -> tuple[str, ...]:
    """Flags of a browser whose microphone hears the file, once."""
    return (FAKE_DEVICE, YES, f"--use-file-for-fake-audio-capture={path}%noloop")


async def open_panel(page: Page) -> None:
    await page.until(LIVE)
    await page.value("document.getElementById('microphone-button').click()")
    await page.until("!document.getElementById('microphone-toggle').disabled")


async def test_what_is_said_into_the_microphone_appears_on_the_page(tmp_path: Path) -> None:
    script = SCRIPT[:4]
    wav = write_wav(tmp_path / "said.wav", audio_of(script))
    async with house(script) as home, chromium_page(home.address, *playing(wav)) as page:
        await open_panel(page)
        await page.value("document.getElementById('microphone-name').value = 'my.stream'")
        await page.value("document.getElementById('microphone-toggle').click()")
        await page.until(f"{ON_AIR} === 'on'")
        meter = "document.getElementById('microphone-meter')"
        await page.until(f"Number({meter}.getAttribute('aria-valuenow')) > -50")
        (stream,) = (await home.get("/v1/streams")).json()
        assert (stream["name"], stream["source"]) == ("my.stream", "websocket")
        await page.until(f"{LINES}.length === 1")
        assert await lines(page) == SAID[:1]
        await page.press("Escape")
        await page.press("m")  # the key stops it
        await page.until(f"{ON_AIR} === 'off'")
        assert (await home.get("/v1/streams")).json() == []  # it was ended, not just left
        assert await page.value("navigator.mediaDevices.enumerateDevices().then((all) => all.length > 0)")
        assert page.complaints == []


async def test_who_shows_one_stream_and_speaks_into_another_is_shown_what_they_say(tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "said.wav", audio_of(SCRIPT[:4]))
    async with house(SCRIPT[:4]) as home, chromium_page(f"{home.address}?stream=hall", *playing(wav)) as page:
        await page.until(LIVE)
        await page.press("m")
        await page.until(f"{ON_AIR} === 'on'")
        await page.until("location.search.startsWith('?stream=microphone-')")
        await page.until(f"{LINES}.length === 1")
        await page.press("m")
        await page.until(f"{ON_AIR} === 'off'")


async def test_over_a_breaking_line_no_final_is_lost_or_doubled() -> None:
    audio = s16(audio_of(SCRIPT))
    async with (
        house(SCRIPT) as home,
        line_to(urlsplit(home.address).netloc) as line,
        chromium_page(f"{line.url}/") as page,
    ):
        await page.until(LIVE)
        await page.value(SPEAKER)
        for number, offset in enumerate(range(0, len(audio), 6_400), 1):
            await page.value(WRITE % base64.b64encode(audio[offset : offset + 6_400]).decode())
            await asyncio.sleep(0.03)
            if number % 13 == 0:
                line.cut()
        await page.value("speaker.end()")
        line.cut()
        await page.until("states.at(-1) === 'ended'")
        await page.until(f"{LINES}.length === {len(SAID)}")
        assert await lines(page) == SAID
        assert await page.value("speaker.lost_ms") == 0
        assert "lost" in await page.value("states")


async def test_a_new_daemon_hears_what_the_old_one_did_not_caption() -> None:
    audio = s16(audio_of(SCRIPT))
    half = 6 * 32_000  # in the middle of the second sentence
    async with chromium_page("about:blank") as page:
        async with house(SCRIPT, config=configured(limits={"drain_ms": 50})) as home:
            port = urlsplit(home.address).port
            await page.go(home.address)
            await page.until(LIVE)
            await page.value(SPEAKER)
            await page.value(WRITE % base64.b64encode(audio[:half]).decode())
            await page.until(f"{LINES}[0] === '{SAID[0]}'")
        await page.until("states.at(-1) === 'lost'")
        before = await lines(page)
        loud = tuple(word for word in SCRIPT if word.start > 9 * 16_000)
        shifted = [type(word)(word.text, word.start - 9 * 16_000, word.end - 9 * 16_000) for word in loud]
        async with house(shifted, config=configured(server={"port": port})) as home:
            await page.until("states.at(-1) === 'speaking'", timeout_s=40)
            heard = (await home.get("/v1/streams")).json()[0]["heard_until_ms"]
            assert heard <= 6_000  # only what had had no final
            await page.value("speaker.end()")
            await page.until("states.at(-1) === 'ended'")
        assert before[0] == SAID[0]


async def test_the_ring_gives_back_what_was_written_wherever_it_is_cut() -> None:
    compare = """
    (async () => {
      const { AudioRing } = await import("/audio-ring.js");
      const ring = new AudioRing(1000);
      const all = [];
      for (let round = 0; round < 400; round += 1) {
        const piece = Int16Array.from({ length: (round * 37) % 1301 }, (_, at) => (all.length + at) % 32000);
        ring.write(piece);
        all.push(...piece);
        const from = ring.start + ((round * 53) % Math.max(1, ring.end - ring.start));
        const read = ring.read(from, ring.end);
        if (ring.end !== all.length || read.some((value, at) => value !== all[from + at])) return round;
      }
      return ring.end - ring.start;
    })()
    """
    async with house() as home, chromium_page(home.address) as page:
        assert await page.value(compare) == 1_000


async def test_sound_that_cannot_be_sent_is_counted_and_the_newest_is_kept() -> None:
    async with house() as home, chromium_page(home.address) as page:
        await page.until(LIVE)
        await page.value(SPEAKER)
        await page.until("states.at(-1) === 'speaking'")
        silence = base64.b64encode(bytes(32_000 * 5)).decode()
        await page.value(
            f"{{ const sound = Int16Array.from({{length: 80000}}); {'speaker.write(sound);' * 8} }}"
        )
        await page.value(WRITE % silence)
        await page.value("speaker.end()")
        await page.until("states.at(-1) === 'ended'")
        assert 0 < await page.value("speaker.lost_ms") <= 15_000


async def test_a_name_that_somebody_speaks_into_is_refused_in_words(tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "said.wav", audio_of(SCRIPT[:4]))
    async with house() as home, home.speaker("stream=hall") as other:
        await other.until("hello")
        async with chromium_page(home.address, *playing(wav)) as page:
            await open_panel(page)
            for name, said in (("hall", "Somebody else is speaking"), ("no spaces", "1 to 64 letters")):
                await page.value(f"document.getElementById('microphone-name').value = '{name}'")
                await page.value("document.getElementById('microphone-toggle').click()")
                await page.until(f"{TOLD}.includes('{said}') && {ON_AIR} === 'off'")


async def test_a_microphone_that_is_not_allowed_is_told_in_words() -> None:
    async with house() as home, chromium_page(home.address, FAKE_DEVICE) as page:
        await page.until(LIVE)
        denied = {"permission": {"name": "microphone"}, "setting": "denied"}
        await page.call("Browser.setPermission", **denied)  # type: ignore[arg-type]
        await page.press("m")
        await page.until(f"{TOLD}.includes('may not use the microphone')")
        assert await visible(page, "microphone")  # the panel opens where it was closed
        assert await page.value(ON_AIR) == "off"
        assert page.complaints == []


async def test_a_machine_without_a_microphone_is_told_so() -> None:
    async with house() as home, chromium_page(home.address, YES) as page:
        await page.until(LIVE)
        missing = "Promise.reject(new DOMException('none', 'NotFoundError'))"
        await page.value(f"navigator.mediaDevices.getUserMedia = () => {missing}")
        await page.press("m")
        await page.until(f"{TOLD}.includes('No microphone was found')")


@pytest.mark.parametrize("name", ["captions.test"])
async def test_a_page_that_is_not_from_https_says_why_it_cannot(name: str) -> None:
    config = configured(server={"hosts": [name]})
    async with house(config=config) as home:
        port = urlsplit(home.address).port
        rules = f"--host-resolver-rules=MAP {name} 127.0.0.1"
        async with chromium_page(f"http://{name}:{port}/", rules) as page:
            await page.until(LIVE)
            assert await page.value("isSecureContext") is False
            await page.value("document.getElementById('microphone-button').click()")
            await page.until(f"{TOLD}.includes('https://')")
            assert await page.value("document.getElementById('microphone-toggle').disabled")


async def test_a_device_that_is_taken_away_ends_the_stream(tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "said.wav", audio_of(SCRIPT[:4]))
    async with house() as home, chromium_page(home.address, *playing(wav)) as page:
        await page.until(LIVE)
        await page.value("window.tracks = []")
        await page.value("""
          (() => {
            const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
            navigator.mediaDevices.getUserMedia = async (wanted) => {
              const stream = await ask(wanted);
              tracks.push(...stream.getTracks());
              return stream;
            };
          })()
        """)
        await page.press("m")
        await page.until(f"{ON_AIR} === 'on'")
        await page.value("tracks[0].dispatchEvent(new Event('ended'))")
        await page.until(f"{ON_AIR} === 'off'")
        async with asyncio.timeout(20):
            while (await home.get("/v1/streams")).json():  # noqa: ASYNC110 (it is asked from outside)
                await asyncio.sleep(0.05)
        assert await page.value("tracks[0].readyState") == "ended"
