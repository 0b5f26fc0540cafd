"""The captions page in a real browser, against the real daemon with a scripted device."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest
from captiond import wire
from captiond_clients.client import speak

from tests.browser.chromium import Page, chromium_page, chromium_path
from tests.clients.test_with_daemon import line_to
from tests.daemon.house import House, audio_of, house, s16
from tests.sim.scripted import say

pytestmark = pytest.mark.skipif(
    chromium_path() is None, reason="Chromium is not installed (Debian: apt install chromium)"
)

SCRIPT = (*say("turn on the lights"), *say("what is the time", at=5 * 16_000))
LINES = "[...document.querySelectorAll('#finals .line')].map((line) => line.textContent)"
OPEN = "document.getElementById('open').textContent"
STATUS = "document.getElementById('status').dataset.state"
LIVE = f"{STATUS} === 'live'"


async def say_all(url: str) -> None:
    async with speak(url, stream="hall") as speaker:
        audio = s16(audio_of(SCRIPT))
        for offset in range(0, len(audio), 6_400):
            await speaker.send(audio[offset : offset + 6_400])
            await asyncio.sleep(0.02)
        await speaker.end()
        async for _ in speaker:
            pass


def tell_final(home: House, segment: int, text: str) -> None:
    """A final of the daemon's own hub, whatever a model would have said."""
    context = home.app.context
    assert context is not None
    feed = context.hub.feed("hall")
    final = wire.Final(segment=segment, text=text, start_ms=0, end_ms=1, language="en")
    context.hub.publish(feed, final)


async def lines(page: Page) -> list[str]:
    return list(await page.value(LINES))


async def test_partials_are_shown_with_tentative_words_apart_and_finals_stay() -> None:
    async with house(SCRIPT) as home, chromium_page(home.address) as page:
        await page.until(LIVE)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(say_all(home.address), name="speaking")
            await page.until("!!document.querySelector('#open .tentative')?.textContent.trim()")
            await page.until(f"{LINES}.length === 2 && {OPEN} === ''")
        assert await lines(page) == ["turn on the lights", "what is the time"]


async def test_after_a_lost_socket_no_final_is_missing_or_doubled() -> None:
    async with house() as home, line_to(urlsplit(home.address).netloc) as line:
        tell_final(home, 1, "one")
        async with chromium_page(f"{line.url}/") as page:
            await page.until(f"{LIVE} && {LINES}.length === 1")
            for count, text in enumerate(("two", "three"), start=2):
                line.cut()
                await page.until(f"{STATUS} === 'lost'")
                tell_final(home, count, text)
                await page.until(f"{LIVE} && {LINES}.length === {count}")
            assert await lines(page) == ["one", "two", "three"]


async def test_markup_in_a_caption_is_only_text() -> None:
    evil = "<img src=x onerror=\"document.title='broken'\"><b>bold</b>"
    async with house() as home, chromium_page(home.address) as page:
        await page.until(LIVE)
        tell_final(home, 1, evil)
        await page.until(f"{LINES}.length === 1")
        assert await lines(page) == [evil]
        assert await page.value("document.querySelectorAll('#finals img, #finals b').length") == 0
        assert await page.value("document.title") != "broken"


async def test_the_page_keeps_its_place_while_somebody_reads_back() -> None:
    async with house() as home, chromium_page(home.address) as page:
        await page.until(LIVE)
        for number in range(40):
            tell_final(home, number, f"line {number}")
        at_the_end = "scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 5"
        await page.until(f"{LINES}.length === 40 && {at_the_end}")
        await page.value("scroll.scrollTop = 0")
        await page.until("!follow.hidden")
        tell_final(home, 40, "line 40")
        await page.until(f"{LINES}.length === 41")
        assert await page.value("scroll.scrollTop") == 0
        await page.value("follow.click()")
        await page.until(at_the_end)


async def test_the_overlay_is_transparent_and_short() -> None:
    async with house() as home, chromium_page(f"{home.address}overlay?lines=2&color=ff0") as page:
        await page.until(LIVE)
        for number in range(4):
            tell_final(home, number, f"line {number}")
        await page.until(f"{LINES}.length === 2 && {LINES}[1] === 'line 3'")
        assert await page.value("getComputedStyle(document.body).backgroundColor") == "rgba(0, 0, 0, 0)"
        assert await page.value("getComputedStyle(document.body).color") == "rgb(255, 255, 0)"
        assert await page.value("getComputedStyle(document.getElementById('status')).visibility") == "hidden"
