"""The pages with nothing scripted: a real browser's microphone, a real daemon process, the bundled model."""

from __future__ import annotations

import asyncio
import json
import wave
from pathlib import Path

import jiwer
import soundfile
from whisper_normalizer.english import EnglishTextNormalizer

from tests.browser.chromium import chromium_page
from tests.browser.reading import LINES, LIVE, OPEN, lines, needs_chromium
from tests.live.test_real_speech import SAMPLE, daemon

pytestmark = needs_chromium

TAKEN_S = 16.0  # of the sample: its first sentences
TENTATIVE = "[...document.querySelectorAll('#open .text')].some((row) => row.textContent.trim())"


def sample_as_wav(path: Path) -> tuple[Path, list[str]]:
    """The sample's sentences that end within TAKEN_S, with a quiet end, and what is said in them."""
    rows = json.loads((SAMPLE / "demo.json").read_text())["segments"]
    taken = [row for row in rows if row["end"] <= TAKEN_S]
    pcm, rate_hz = soundfile.read(SAMPLE / "demo.flac", dtype="int16")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(pcm[: round(taken[-1]["end"] * rate_hz)].tobytes() + bytes(4 * rate_hz))
    return path, [row["text"] for row in taken]


async def test_what_is_said_into_a_browser_is_read_on_its_page(tmp_path: Path) -> None:
    wav, said = await asyncio.to_thread(sample_as_wav, tmp_path / "sample.wav")
    flags = (
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={wav}%noloop",
    )
    async with daemon() as url, chromium_page(f"{url}/", *flags) as page:
        await page.until(LIVE)
        await page.press("m")
        await page.until(TENTATIVE, timeout_s=60)  # words come while they are being said
        await page.until(f"{LINES}.length === {len(said)} && {OPEN}.length === 0", timeout_s=120)
        heard = await lines(page)
        await page.press("m")
        await page.until("document.getElementById('microphone-button').dataset.state === 'off'")
        assert page.complaints == []
    normal = EnglishTextNormalizer()
    assert jiwer.wer(normal(" ".join(said)), normal(" ".join(heard))) <= 0.2
