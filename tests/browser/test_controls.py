"""Who uses the keyboard or a screen reader, and the choice of the stream."""

from __future__ import annotations

import json
from typing import Any

from captiond import wire

from tests.browser.chromium import Page, chromium_page
from tests.browser.reading import (
    AT_THE_END,
    LINES,
    LIVE,
    OPEN,
    SCROLL,
    Teller,
    lines,
    needs_chromium,
    visible,
)
from tests.daemon.house import house

pytestmark = needs_chromium

PANELS = {"c": "streams", "d": "save", "s": "settings", "?": "help"}
OPEN_PANEL = "document.querySelector('dialog[open]')?.id ?? ''"
STATES = """
Object.fromEntries([...document.querySelectorAll('#stream-list label')]
  .map((row) => [row.dataset.stream, row.querySelector('.state').textContent]))
"""
INTERACTIVE = {"button", "checkbox", "radio", "combobox", "textbox", "link", "meter", "dialog", "log"}


def states_are(**states: str) -> str:
    return f"JSON.stringify({STATES}) === JSON.stringify({json.dumps({'*': '', **states})})"


def of_role(tree: list[dict[str, Any]], role: str) -> list[dict[str, Any]]:
    return [node for node in tree if node["role"] == role]


async def choose(page: Page, stream: str) -> None:
    await page.value(f"document.querySelector('#stream-list [data-stream=\"{stream}\"] input').click()")


async def test_each_panel_has_a_key_and_goes_with_escape() -> None:
    async with house() as home, chromium_page(home.address) as page:
        await page.until(LIVE)
        for key, panel in PANELS.items():
            await page.press(key)
            await page.until(f"{OPEN_PANEL} === '{panel}'")
            expanded = f"document.querySelector('[aria-controls={panel}]').getAttribute('aria-expanded')"
            assert await page.value(expanded) == "true"
            assert await page.value("document.querySelector('dialog[open]').contains(document.activeElement)")
            await page.press("Escape")
            assert await page.value(OPEN_PANEL) == ""
            assert await page.value(expanded) == "false"
            assert await page.value("document.activeElement.getAttribute('aria-controls')") == panel
        await page.press("s")
        await page.press("?")  # one at a time
        assert await page.value("document.querySelectorAll('dialog[open]').length") == 1
        assert page.complaints == []


async def test_keys_for_size_theme_and_the_newest_line() -> None:
    async with house() as home, chromium_page(home.address) as page:
        await page.until(LIVE)
        size = f"parseFloat(getComputedStyle({SCROLL}).fontSize)"
        first = await page.value(size)
        await page.press("+")
        larger = await page.value(size)
        await page.press("-")
        await page.press("-")
        smaller = await page.value(size)
        assert smaller < first < larger
        await page.press("0")
        assert await page.value(size) == first
        looks = []
        for _ in range(4):
            await page.press("t")
            looks.append(await page.value("document.documentElement.dataset.theme"))
        assert looks == ["dark", "light", "contrast", "auto"]
        teller = Teller(home)
        for number in range(40):
            teller.final(f"line {number}")
        await page.until(f"{LINES}.length === 40 && {AT_THE_END}")
        await page.value(f"{SCROLL}.scrollTop = 0")
        await page.until("!follow.hidden")
        await page.press("l")
        await page.until(AT_THE_END)


async def test_keys_are_letters_in_fields_and_can_be_switched_off() -> None:
    async with house() as home, chromium_page(home.address) as page:
        await page.until(LIVE)
        await page.value("document.getElementById('microphone-button').click()")
        await page.until("document.getElementById('microphone-name').value")  # the panel's part is there
        await page.value("document.getElementById('microphone-name').select()")
        for letter in "stds":
            await page.press(letter)
        assert await page.value("document.getElementById('microphone-name').value") == "stds"
        assert await page.value(OPEN_PANEL) == "microphone"
        await page.press("Escape")
        await page.press("s", modifiers=2)  # with Ctrl it is the browser's
        assert await page.value(OPEN_PANEL) == ""
        await page.press("s")
        await page.value("document.querySelector('[name=keys]').click()")
        await page.press("Escape")
        await page.press("s")
        assert await page.value(OPEN_PANEL) == ""


async def test_tab_leads_past_the_bar_and_focus_is_seen() -> None:
    async with house() as home, chromium_page(home.address) as page:
        await page.until(LIVE)
        await page.press("Tab")
        assert await page.value("document.activeElement.className") == "skip"
        assert await visible(page, "bar")
        await page.press("Enter")
        await page.until("document.activeElement.id === 'scroll'")
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        await page.press("Tab", modifiers=8)
        assert await page.value("document.activeElement.closest('#bar') !== null")
        assert await page.value(outline) == "solid"


async def test_screen_readers_are_told_finals_once_and_nothing_that_may_change() -> None:
    async with house() as home, chromium_page(home.address) as page:
        teller = Teller(home)
        teller.final("before")
        await page.until(f"{LIVE} && {LINES}.length === 1")
        await page.until("document.getElementById('finals').getAttribute('aria-live') === 'polite'")
        teller.final("said")
        teller.partial(teller.start(), "not yet", " said")
        await page.until(f"{LINES}.length === 2 && {OPEN}.length === 1")
        tree = await page.tree()
        (log,) = of_role(tree, "log")
        assert (log["live"], log["name"]) == ("polite", "Captions")
        texts = [node["name"] for node in of_role(tree, "StaticText")]
        assert [text for text in texts if text in ("before", "said")] == ["before", "said"]
        assert not any("not yet" in text for text in texts)
        assert [node["live"] for node in of_role(tree, "status") if node["name"] or node.get("live")]
        assert of_role(tree, "main")
        assert of_role(tree, "banner")
        await page.reload()  # what was said before is not read out
        assert await page.value("document.getElementById('finals').getAttribute('aria-live')") == "off"


async def test_everything_that_can_be_used_has_a_name() -> None:
    async with house() as home, chromium_page(home.address) as page:
        await page.until(LIVE)
        for key in ("", *PANELS, "microphone"):
            if key == "microphone":
                await page.value("document.getElementById('microphone-button').click()")
            elif key:
                await page.press(key)
            tree = await page.tree()
            nameless = [node for node in tree if node["role"] in INTERACTIVE and not node["name"].strip()]
            assert nameless == [], key
            assert len(of_role(tree, "dialog")) == bool(key)


async def test_streams_are_listed_with_their_states_as_they_change() -> None:
    async with house() as home, chromium_page(home.address) as page:
        await page.until(LIVE)
        await page.press("c")
        await page.until("document.getElementById('no-streams').checkVisibility()")
        async with home.speaker("stream=hall") as hall, home.speaker("stream=attic") as attic:
            await hall.until("hello")
            await attic.until("hello")
            await page.until(states_are(attic="quiet", hall="quiet"))
            teller = Teller(home)
            segment = teller.start("hall")
            await page.until(states_are(attic="quiet", hall="speaking"))
            teller.tell("hall", wire.SpeechEnded(segment=segment, at_ms=900, reason="silence"))
            await page.until(states_are(attic="quiet", hall="quiet"))
            await attic.say(type="end")
            await page.until(states_are(hall="quiet", attic="closed"))


async def test_another_stream_can_be_chosen_and_the_address_says_so() -> None:
    async with (
        house() as home,
        chromium_page(f"{home.address}?theme=dark") as page,
        home.speaker("stream=hall") as hall,
        home.speaker("stream=attic") as attic,
    ):
        await hall.until("hello")
        await attic.until("hello")
        await page.until(LIVE)
        teller = Teller(home)
        for name in ("hall", "attic", "hall"):
            teller.final(f"from the {name}", name)
        await page.until(f"{LINES}.length === 3")
        await page.press("c")
        await page.until(states_are(attic="quiet", hall="quiet"))
        await choose(page, "hall")
        await page.until(f"{LIVE} && {LINES}.length === 2")
        assert await lines(page) == ["from the hall", "from the hall"]
        assert await page.value("location.search") == "?theme=dark&stream=hall"
        assert await page.value("document.title") == "hall · Live captions"
        teller.start("attic")  # of the others, too, the open list says what they do
        await page.until(states_are(attic="speaking", hall="quiet"))
        teller.final("again from the attic", "attic")
        await choose(page, "*")
        await page.until(f"{LIVE} && {LINES}.length === 4")
        assert (await lines(page))[-1] == "again from the attic"
        assert await page.value("location.search") == "?theme=dark"
        await choose(page, "hall")  # what was shown of it before is still there, once
        await page.until(f"{LIVE} && {LINES}.length === 2")
        teller.final("from the hall, once more", "hall")
        await page.until(f"{LINES}.length === 3")
        await page.press("Escape")
        assert page.complaints == []


async def test_a_stream_of_the_address_that_is_not_there_yet_is_waited_for() -> None:
    async with house() as home, chromium_page(f"{home.address}?stream=later") as page:
        await page.until(LIVE)
        await page.press("c")
        await page.until(states_are(later="closed"))
        Teller(home).final("from another", "other")
        Teller(home).final("here it is", "later")
        await page.until(f"{LINES}.length === 1")
        assert await lines(page) == ["here it is"]
