"""What is being said, as it is shown: in a real browser, against the real daemon with a scripted device."""

from __future__ import annotations

import asyncio

import pytest
from captiond import wire
from captiond_clients.client import speak

from tests.browser.chromium import Page, chromium_page
from tests.browser.reading import (
    AT_THE_END,
    LINES,
    LIVE,
    OPEN,
    SCROLL,
    STATE,
    STATUS,
    Teller,
    lines,
    needs_chromium,
    style,
)
from tests.daemon.house import audio_of, configured, house, s16
from tests.sim.scripted import say

pytestmark = needs_chromium

SCRIPT = (*say("turn on the lights"), *say("what is the time", at=5 * 16_000))
GLIDING = "document.getElementById('lines').getAnimations().length"
ORDER = """
[...document.querySelectorAll('.text')]
  .sort((a, b) => a.getBoundingClientRect().y - b.getBoundingClientRect().y)
  .map((row) => row.textContent)
"""
NAMES = """
[...document.querySelectorAll('.name')]
  .filter((name) => name.checkVisibility())
  .map((name) => name.textContent)
"""
# Where each word of the newest row stands, as "x,y".
PLACES = """
(() => {
  const row = [...document.querySelectorAll('.text')].at(-1);
  const walk = document.createTreeWalker(row, NodeFilter.SHOW_TEXT);
  const places = {};
  for (let node = walk.nextNode(); node; node = walk.nextNode()) {
    for (const word of node.data.matchAll(/\\S+/g)) {
      const range = new Range();
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      const box = range.getBoundingClientRect();
      places[word[0]] = [Math.round(box.x), Math.round(box.y), Math.round(box.width)].join();
    }
  }
  return places;
})()
"""


async def say_all(url: str) -> None:
    async with speak(url, stream="hall") as speaker:
        audio = s16(audio_of(SCRIPT))
        for offset in range(0, len(audio), 6_400):
            await speaker.send(audio[offset : offset + 6_400])
            await asyncio.sleep(0.02)
        await speaker.end()
        async for _ in speaker:
            pass


async def still_places(page: Page) -> dict[str, str]:
    """Where the words stand once nothing glides any more."""
    await page.until("document.getAnimations().every((one) => one.playState !== 'running')")
    return dict(await page.value(PLACES))


async def test_partials_are_shown_with_tentative_words_apart_and_finals_stay() -> None:
    async with house(SCRIPT) as home, chromium_page(home.address) as page:
        await page.until(LIVE)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(say_all(home.address), name="speaking")
            await page.until("!!document.querySelector('#open .tentative')?.textContent.trim()")
            await page.until(f"{LINES}.length === 2 && {OPEN}.length === 0")
        assert await lines(page) == ["turn on the lights", "what is the time"]
        assert page.complaints == []


async def test_words_that_are_settled_change_their_colour_and_nothing_else() -> None:
    async with house() as home, chromium_page(home.address) as page:
        await page.look(width=700)
        await page.until(LIVE)
        teller = Teller(home)
        teller.final("the line before")
        segment = teller.start()
        teller.partial(segment, "", "so many words that they need more than one line to stand")
        await page.until(f"{OPEN}.length === 1")
        tentative, dimmed = await still_places(page), await style(page, ".tentative", "color")
        teller.partial(segment, "so many words that they need", " more than one line to stand")
        await page.until("document.querySelector('#open span').textContent !== ''")
        assert await still_places(page) == tentative
        assert await style(page, "#open .text", "color") != dimmed
        teller.end(segment, "so many words that they need more than one line to stand")
        await page.until(f"{LINES}.length === 2")
        assert await still_places(page) == tentative
        assert await style(page, "#finals .line:last-child .text", "color") != dimmed


async def test_a_row_keeps_its_place_when_another_stream_finishes_first() -> None:
    async with house() as home, chromium_page(home.address) as page:
        await page.until(LIVE)
        teller = Teller(home)
        one, two = teller.start("hall"), teller.start("booth")
        teller.partial(one, "first to", " begin", "hall")
        await page.until(f"{OPEN}.length === 1")
        teller.partial(two, "second", " to begin", "booth")
        await page.until(f"{OPEN}.length === 2")
        teller.end(two, "second to begin and first to end", "booth")
        await page.until(f"{LINES}.length === 1")
        assert await page.value(ORDER) == ["first to begin", "second to begin and first to end"]
        assert sorted(await page.value(NAMES)) == ["booth", "hall"]
        teller.end(one, "first to begin and last to end", "hall")
        await page.until(f"{LINES}.length === 2 && {OPEN}.length === 0")
        assert await page.value(ORDER) == [
            "first to begin and last to end",
            "second to begin and first to end",
        ]


async def test_what_gives_no_caption_leaves_no_row() -> None:
    async with house() as home, chromium_page(home.address) as page:
        await page.until(LIVE)
        teller = Teller(home)
        segment = teller.start()
        teller.partial(segment, "", "thank you for watching")
        await page.until(f"{OPEN}.length === 1")
        teller.tell("hall", wire.Suppressed(segment=segment, reason="no_speech"))
        await page.until(f"{OPEN}.length === 0")
        left = teller.start()
        teller.partial(left, "", "somebody who")
        await page.until(f"{OPEN}.length === 1")
        teller.hub.close(teller.hub.feed("hall"), "client_gone")
        await page.until(f"{OPEN}.length === 0")
        assert await lines(page) == []


async def test_who_comes_late_sees_what_was_said_and_what_is_being_said() -> None:
    async with house() as home:
        teller = Teller(home)
        for number in range(30):
            teller.final(f"line {number}")
        teller.partial(teller.start(), "and", " now")
        async with chromium_page(home.address) as page:
            await page.until(f"{LIVE} && {LINES}.length === 30 && {OPEN}[0] === 'and now'")
            await page.until(AT_THE_END)
            await page.go(f"{home.address}?history=3&stream=hall")
            await page.until(f"{LIVE} && {LINES}.length === 3")
            assert await lines(page) == ["line 27", "line 28", "line 29"]


async def test_markup_in_captions_and_names_is_only_text() -> None:
    evil = "<img src=x onerror=\"document.title='broken'\"><b>bold</b>"
    async with house() as home, chromium_page(home.address) as page:
        await page.until(LIVE)
        teller = Teller(home)
        teller.partial(teller.start(), evil, evil)
        await page.until(f"{OPEN}.length === 1")
        assert await page.value(OPEN) == [evil + evil]
        teller.end(1, evil)
        await page.until(f"{LINES}.length === 1")
        assert await lines(page) == [evil]
        assert await page.value("document.querySelectorAll('main img, main b').length") == 0
        assert "broken" not in await page.value("document.title")
        await page.go(
            f"{home.address}?stream={'%3Cimg%20src=x%3E'}&color=red;}}body{{display:none&font=%3Cb%3E"
        )
        await page.until(LIVE)
        assert await page.value("document.querySelectorAll('img').length") == 0


async def test_the_page_keeps_its_place_while_somebody_reads_back() -> None:
    async with house() as home, chromium_page(home.address) as page:
        await page.until(LIVE)
        teller = Teller(home)
        for number in range(40):
            teller.final(f"line {number}")
            await asyncio.sleep(0)
        await page.until(f"{LINES}.length === 40 && {AT_THE_END}")
        await page.value(f"{SCROLL}.scrollTop = 100")
        # The lines above may still be gliding where the machine is busy.
        await page.until(f"!follow.hidden && {GLIDING} === 0")
        teller.final("line 40")
        await page.until(f"{LINES}.length === 41")
        assert await page.value(f"{SCROLL}.scrollTop") == 100
        assert await page.value("document.getElementById('unseen').textContent") == "1 new"
        assert await page.value(GLIDING) == 0
        await page.value("follow.click()")
        await page.until(f"{AT_THE_END} && follow.hidden")
        teller.final("line 41")
        await page.until(f"{LINES}.length === 42 && {AT_THE_END}")


async def test_it_says_how_far_it_is_behind_and_when_it_has_caught_up() -> None:
    async with house() as home, chromium_page(home.address) as page:
        await page.until(LIVE)
        teller = Teller(home)
        teller.tell("hall", wire.Lag(behind_ms=4_200, level="warn"))
        await page.until(f"{STATE} === 'behind'")
        assert await page.value(STATUS) == "4.2 s behind"
        teller.tell("hall", wire.Lag(behind_ms=900, level="ok"))
        await page.until(LIVE)
        teller.tell("hall", wire.AudioLost(start_ms=1_000, end_ms=3_500, reason="overrun"))
        await page.until("document.querySelector('.note')?.textContent.includes('2.5 s of sound were lost')")


@pytest.mark.parametrize("text", ["שלום לכולם", "مرحبا بكم"])
async def test_text_from_right_to_left_begins_at_the_right(text: str) -> None:
    async with house() as home, chromium_page(home.address) as page:
        await page.until(LIVE)
        teller = Teller(home)
        teller.partial(teller.start(), text, f" {text}")
        await page.until(f"{OPEN}.length === 1")
        assert await style(page, "#open .text", "direction") == "rtl"
        teller.end(1, f"{text} {text}")
        await page.until(f"{LINES}.length === 1")
        assert await style(page, "#finals .text", "direction") == "rtl"


async def test_a_page_left_open_keeps_a_bounded_number_of_lines_and_says_so() -> None:
    kept, said = 2_000, 2_030
    config = configured(limits={"queue_facts": 1_000})
    async with house(config=config) as home, chromium_page(f"{home.address}?stream=hall") as page:
        await page.until(LIVE)
        teller = Teller(home)
        for number in range(0, said, 70):
            for each in range(number, number + 70):
                teller.final(f"line {each}")
            await page.until(f"{LINES}.at(-1) === 'line {number + 69}'", timeout_s=60)
        assert (await lines(page))[0] == "line 30"
        assert len(await lines(page)) == kept
        assert await page.value("!document.getElementById('dropped').hidden")
        await page.press("d")
        await page.until("document.getElementById('save-summary').textContent.startsWith('2000 lines')")
        assert "30 older ones are gone" in await page.value(
            "document.getElementById('save-bound').textContent"
        )
