"""Captions as files and on the clipboard: the same text as the command line's subtitles."""

from __future__ import annotations

import asyncio
import datetime
import re
from pathlib import Path
from typing import Literal

import pytest
from captiond import wire
from captiond_clients.events import Final
from captiond_clients.subtitles import SubtitleText

from tests.browser.chromium import Page, chromium_page
from tests.browser.reading import LINES, LIVE, Teller, needs_chromium
from tests.daemon.house import House, house

pytestmark = needs_chromium

SAID = (
    (300, 1_900, "Good evening & welcome."),
    (
        2_500,
        9_400,
        "This one is <b>long</b>, so that it needs more than one cue --> " + "word after word " * 8,
    ),
    (3_661_007, 3_662_000, "After an hour,\nשלום."),
    (3_670_000, 3_671_250, "日本語の字幕です"),
)


async def tell(home: House, page: Page, stream: str = "hall") -> list[Final]:
    """SAID as finals of ``stream``, shown on the page."""
    teller = Teller(home)
    before = int(await page.value(f"{LINES}.length"))
    for number, (start_ms, end_ms, text) in enumerate(SAID, 1):
        told = wire.Final(segment=number, text=text, start_ms=start_ms, end_ms=end_ms, language="en")
        teller.tell(stream, told)
    await page.until(f"{LINES}.length === {before + len(SAID)}")
    return [
        Final(type="transcript.final", segment=number, text=text, start_ms=start_ms, end_ms=end_ms)
        for number, (start_ms, end_ms, text) in enumerate(SAID, 1)
    ]


def subtitles(form: Literal["srt", "vtt"], finals: list[Final], offset_ms: int = 0) -> str:
    writer = SubtitleText(form)
    writer.offset_ms = offset_ms
    return writer.head() + "".join(writer.cue_text(final) for final in finals)


def files(folder: Path, form: str) -> set[Path]:
    return set(folder.glob(f"*.{form}"))


async def save(page: Page, folder: Path, form: str) -> tuple[str, str]:
    """Presses the button of ``form``; the file's name and text."""
    known = files(folder, form)
    await page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    await page.value(f"document.querySelector('#save button[value={form}]').click()")
    async with asyncio.timeout(20):
        while True:
            for new in files(folder, form) - known:
                return new.name, new.read_text("utf-8")
            await asyncio.sleep(0.05)  # the browser writes it


async def open_panel(page: Page) -> None:
    await page.press("d")
    await page.until("!document.querySelector('#save button[value=srt]').disabled")


async def test_files_have_the_text_that_the_command_line_writes(tmp_path: Path) -> None:
    async with house() as home, chromium_page(home.address) as page:
        await page.until(LIVE)
        finals = await tell(home, page)
        await open_panel(page)
        for form in ("srt", "vtt"):
            name, text = await save(page, tmp_path, form)
            today = datetime.datetime.now().astimezone().date().isoformat()
            assert re.fullmatch(rf"captions-hall-{today}-\d{{4}}\.{form}", name)
            assert text == subtitles(form, finals)  # type: ignore[arg-type]
        name, text = await save(page, tmp_path, "txt")
        assert text.splitlines() == [" ".join(said.split()) for _, _, said in SAID]
        assert page.complaints == []


async def test_a_stream_that_was_opened_again_goes_on_in_its_file(tmp_path: Path) -> None:
    async with house() as home, chromium_page(home.address) as page:
        await page.until(LIVE)
        finals = await tell(home, page) + await tell(home, page)
        await open_panel(page)
        _, text = await save(page, tmp_path, "srt")
        first = subtitles("srt", finals[:4])
        assert text.startswith(first)
        times = re.findall(r"(\d\d:\d\d:\d\d,\d{3})", text)
        assert times == sorted(times)
        assert re.findall(r"^\d+$", text, re.MULTILINE) == [
            str(number) for number in range(1, text.count("-->") + 1)
        ]
        assert "02:02:22,500" in times  # the last line's end, twice


async def test_each_stream_has_its_own_file(tmp_path: Path) -> None:
    async with house() as home, chromium_page(home.address) as page:
        await page.until(LIVE)
        finals = await tell(home, page)
        Teller(home).final("from the attic", "attic")
        await page.until(f"{LINES}.length === 5")
        await open_panel(page)
        choices = "[...document.getElementById('save-stream').options].map((option) => option.value)"
        assert await page.value(choices) == ["attic", "hall"]
        name, text = await save(page, tmp_path, "vtt")
        assert name.startswith("captions-attic-")
        assert text == "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nfrom the attic\n\n"
        await page.value("document.getElementById('save-stream').value = 'hall'")
        await page.value(
            "document.getElementById('save-stream').dispatchEvent(new Event('change', {bubbles: true}))"
        )
        assert await page.value("document.getElementById('save-summary').textContent") == "4 lines of hall"
        assert (await save(page, tmp_path, "srt"))[1] == subtitles("srt", finals)


async def test_nothing_said_is_nothing_to_save() -> None:
    async with house() as home, chromium_page(home.address) as page:
        await page.until(LIVE)
        await page.press("d")
        await page.until(
            "document.getElementById('save-summary').textContent === 'Nothing has been said yet.'"
        )
        assert await page.value(
            "[...document.querySelectorAll('#save button[value]')].every((button) => button.disabled)"
        )


@pytest.mark.parametrize("newer", [True, False])
async def test_the_text_goes_to_the_clipboard(newer: bool) -> None:
    """Also where the browser has no clipboard for pages that are not from https."""
    async with house() as home, chromium_page(home.address) as page:
        await page.until(LIVE)
        await page.call(
            "Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"]
        )
        teller = Teller(home)
        teller.final("copied")
        teller.final("line by line")
        await page.until(f"{LINES}.length === 2")
        await open_panel(page)
        if not newer:
            await page.value("navigator.clipboard.writeText = () => Promise.reject(new Error('no'))")
        await page.value("document.querySelector('#save button[value=copy]').click()")
        await page.until("document.getElementById('save-said').textContent === 'Copied.'")
        await page.call("Page.bringToFront")
        assert await page.value("navigator.clipboard.readText()") == "copied\nline by line\n"
