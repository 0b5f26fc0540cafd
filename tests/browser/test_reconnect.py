"""No final is lost or doubled, over lost sockets, new daemons and reloads; and what is said meanwhile."""

from __future__ import annotations

import asyncio
import re
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from captiond import wire
from captiond_engine.engine import Engine
from captiond_engine.progress import Progress, ProgressEvent

from tests.browser.chromium import chromium_page
from tests.browser.door import door_to
from tests.browser.reading import (
    LINES,
    LIVE,
    NOTES,
    OPEN,
    STATE,
    STATUS,
    Teller,
    lines,
    needs_chromium,
    visible,
)
from tests.clients.test_with_daemon import line_to
from tests.daemon.house import configured, house, scripted_engine

pytestmark = needs_chromium

TOKEN = "a-token-of-sixteen-characters"


@pytest.mark.parametrize("query", ["", "?stream=hall"])
async def test_after_a_lost_socket_no_final_is_missing_or_doubled(query: str) -> None:
    async with house() as home, line_to(urlsplit(home.address).netloc) as line:
        teller = Teller(home)
        teller.final("one")
        async with chromium_page(f"{line.url}/{query}") as page:
            await page.until(f"{LIVE} && {LINES}.length === 1")
            said = ["one"]
            for text in ("two", "three", "three", "four"):
                teller.final(text)  # perhaps on its way when the line is cut
                line.cut()
                teller.final(f"{text} again")
                said += [text, f"{text} again"]
                await page.until(f"{LIVE} && {LINES}.length === {len(said)}")
            assert await lines(page) == said
            assert await page.value(NOTES) == []


async def test_of_one_stream_every_fact_is_told_after_a_lost_socket() -> None:
    async with house() as home, line_to(urlsplit(home.address).netloc) as line:
        teller = Teller(home)
        teller.final("one")
        async with chromium_page(f"{line.url}/?stream=hall") as page:
            await page.until(f"{LIVE} && {LINES}.length === 1")
            line.cut()
            teller.tell("hall", wire.AudioLost(start_ms=2_000, end_ms=4_000, reason="overrun"))
            teller.final("two")
            await page.until(f"{LIVE} && {LINES}.length === 2")
            assert await page.value(NOTES) == ["2.0 s of sound were lost here"]
            await page.reload()
            await page.until(f"{LIVE} && {LINES}.length === 2")
            assert await page.value(NOTES) == ["2.0 s of sound were lost here"]


@pytest.mark.parametrize("query", ["", "?stream=hall"])
async def test_what_is_being_said_is_shown_again_after_a_lost_socket(query: str) -> None:
    async with house() as home, line_to(urlsplit(home.address).netloc) as line:
        teller = Teller(home)
        async with chromium_page(f"{line.url}/{query}") as page:
            await page.until(LIVE)
            segment = teller.start()
            teller.partial(segment, "half of", " a sentence")
            await page.until(f"{OPEN}.length === 1")
            line.cut()
            await page.until(f"{STATE} === 'lost'")
            await page.until(f"{LIVE} && {OPEN}[0] === 'half of a sentence'")
            line.cut()
            teller.end(segment, "half of a sentence and the rest")
            await page.until(f"{LIVE} && {LINES}.length === 1 && {OPEN}.length === 0")


@pytest.mark.parametrize("query", ["", "?stream=hall"])
async def test_lines_outlive_the_daemon_and_the_page(query: str) -> None:
    """The same words with the same numbers in a new daemon are other words: both are shown."""
    async with chromium_page("about:blank") as page:
        port = 0
        said: list[str] = []
        for life in range(3):
            async with house(config=configured(server={"port": port})) as home:
                port = urlsplit(home.address).port or 0
                teller = Teller(home)
                teller.hub.open("hall", "websocket")
                for text in ("good morning", "we begin"):
                    teller.final(text)
                    said.append(text)
                if life == 0:
                    await page.go(f"{home.address}{query}")
                await page.until(f"{LIVE} && {LINES}.length === {len(said)}")
                for _ in range(2):
                    await page.reload()
                    await page.until(f"{LIVE} && {LINES}.length === {len(said)}")
                teller.final(f"life {life}")
                said.append(f"life {life}")
                await page.until(f"{LINES}.length === {len(said)}")
                assert await lines(page) == said
            await page.until(f"{STATE} === 'lost'")
            assert await visible(page, "trouble")
        assert len(await page.value(NOTES)) == 2  # where a new daemon began
        await page.value("document.getElementById('clear').click()")
        assert await lines(page) == []


async def test_whose_words_they_are_is_still_said_after_a_lost_socket() -> None:
    names = "[...document.querySelectorAll('.name')].filter((name) => name.checkVisibility())"
    async with house() as home, line_to(urlsplit(home.address).netloc) as line:
        teller = Teller(home)
        async with chromium_page(f"{line.url}/") as page:
            await page.until(LIVE)
            teller.final("from the booth", "booth")
            segment = teller.start("hall")
            teller.partial(segment, "from", " the hall", "hall")
            await page.until(f"{OPEN}.length === 1")
            line.cut()
            teller.end(segment, "from the hall", "hall")
            await page.until(f"{LIVE} && {LINES}.length === 2")
            assert await page.value(f"{names}.map((name) => name.textContent)") == ["booth", "hall"]


async def test_a_name_that_was_forgotten_counts_anew_and_is_shown() -> None:
    """A daemon forgets closed streams when there are many; their numbers then begin at one again."""
    config = configured(history={"streams": 1})
    async with house(config=config) as home, line_to(urlsplit(home.address).netloc) as line:
        teller = Teller(home)
        async with chromium_page(f"{line.url}/") as page:
            await page.until(LIVE)
            for text in ("one", "two", "three"):
                teller.final(text)
            await page.until(f"{LINES}.length === 3")
            line.cut()
            for name in ("hall", "a", "b"):
                teller.hub.open(name, "websocket")
                teller.hub.close(teller.hub.feed(name), "end")
            again = Teller(home)
            again.hub.open("hall", "websocket")
            again.final("one, of another day")
            assert again.hub.feed("hall").seq < 9
            await page.until(f"{LIVE} && {LINES}.length === 4")
            assert (await lines(page))[-1] == "one, of another day"


async def test_a_page_that_reads_too_slowly_is_sent_away_and_comes_back_with_everything() -> None:
    async with house() as home, chromium_page(home.address) as page:
        await page.until(LIVE)
        teller = Teller(home)
        for number in range(400):  # more than may wait for a listener
            teller.final(f"line {number}")
        await page.until(f"{LIVE} && {LINES}.length === 400")
        assert await lines(page) == [f"line {number}" for number in range(400)]


async def test_a_daemon_that_is_loading_says_what_it_does() -> None:
    go_on = threading.Event()

    def load(progress: Progress) -> Engine:
        progress(ProgressEvent("compile", "Compiling the decoder", 0.4, 120.0))
        go_on.wait()
        return scripted_engine(())

    try:
        async with house(load=load) as home, chromium_page(home.address) as page:
            await page.until(f"{STATE} === 'unready'")
            detail = "document.getElementById('empty-detail').textContent"
            await page.until(f"{detail}.includes('Compiling the decoder')")
            assert "Compiling the decoder" in await page.value(STATUS)
            home.app.readiness.block("model", "Checking the model")
            await page.until(f"{detail} === 'Checking the model'")
            go_on.set()
            await page.until(LIVE)
            assert await page.value("document.getElementById('empty-title').textContent") == (
                "Waiting for speech"
            )
    finally:
        go_on.set()


async def test_a_daemon_with_tokens_is_told_one_and_the_tab_remembers_it(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(f"{TOKEN}\n")
    config = configured(server={"tokens_file": str(tmp_path / "tokens")})
    async with house(config=config) as home, chromium_page(home.address) as page:
        await page.until(f"{STATE} === 'token'")
        await page.until("document.activeElement.id === 'token'")
        for wrong, said in (("not one", "no spaces"), ("a-token-that-is-wrong", "not accepted")):
            await page.value(f"document.getElementById('token').value = '{wrong}'")
            await page.press("Enter")
            await page.until(f"document.getElementById('token-said').textContent.includes('{said}')")
        await page.value(f"document.getElementById('token').value = '{TOKEN}'")
        await page.press("Enter")
        await page.until(LIVE)
        assert not await visible(page, "token-form")
        async with home.speaker("stream=hall", subprotocols=["captiond", f"token.{TOKEN}"]) as speaker:
            await speaker.until("hello")
            await page.press("c")
            await page.until("document.getElementById('stream-list').textContent.includes('hall')")
        await page.reload()
        await page.until(LIVE)
        assert TOKEN not in await page.value("document.documentElement.outerHTML + location.href")
        assert await page.value("JSON.stringify(localStorage)") == "{}"


async def test_a_token_in_the_fragment_is_used_and_taken_out_of_the_address(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(f"{TOKEN}\n")
    config = configured(server={"tokens_file": str(tmp_path / "tokens")})
    async with house(config=config) as home:
        for path in ("", "overlay"):
            async with chromium_page(f"{home.address}{path}?lines=3#token={TOKEN}") as page:
                await page.until(LIVE)
                assert await page.value("location.href") == f"{home.address}{path}?lines=3"


async def test_who_is_not_let_in_is_told_why() -> None:
    config = configured(limits={"max_subscribers": 1})
    async with house(config=config) as home, home.viewer() as viewer:
        await viewer.until("hello")
        async with chromium_page(home.address) as page:
            await page.until(f"{STATE} === 'unready'")
            assert "All 1 listeners' places are taken." in await page.value(STATUS)
            await viewer.socket.close()
            await page.until(LIVE)


async def test_behind_a_proxy_that_hides_our_name_the_page_says_what_to_do() -> None:
    """The daemon sees a name that is not the page's: the websocket's origin is then a stranger's."""

    def rename(head: bytes) -> bytes:
        return re.sub(rb"(?i)\r\nhost: [^\r]*", b"\r\nHost: localhost", head)

    async with house() as home, door_to(home.netloc, rename) as url, chromium_page(f"{url}/") as page:
        await page.until(f"{STATE} === 'refused'")
        assert f"server.origins must have {url} in it" in await page.value(STATUS)


async def test_a_daemon_that_does_not_answer_any_more_is_noticed() -> None:
    """The socket stays open, but nothing comes and nothing answers: a network that went away."""
    async with house() as home, chromium_page(home.address) as page:
        await page.until(LIVE)
        # Nobody answers the page's looks from here on; they come each few seconds while the list is open.
        await page.value("window.fetch = () => Promise.reject(new TypeError('gone'))")
        await page.press("c")
        await page.until(f"{STATE} === 'lost'")
        await page.until(LIVE)


async def test_an_overlay_shows_nothing_old_after_a_lost_socket() -> None:
    async with house() as home, line_to(urlsplit(home.address).netloc) as line:
        teller = Teller(home)
        teller.final("long ago", "attic")
        teller.final("before", "hall")
        async with chromium_page(f"{line.url}/overlay") as page:
            await page.until(LIVE)
            teller.final("now", "hall")
            await page.until(f"{LINES}.length === 1")
            line.cut()
            teller.final("meanwhile", "hall")
            await page.until(f"{LIVE} && {LINES}.length === 2")
            assert await lines(page) == ["now", "meanwhile"]


async def test_a_hidden_page_holds_no_more_than_a_shown_one_and_is_right_when_it_is_seen() -> None:
    async with house() as home, chromium_page(home.address) as page:
        await page.until(LIVE)
        teller = Teller(home)
        await page.value("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
        segment = teller.start()
        for number in range(50):
            teller.partial(segment, f"word {number}", "")
            await asyncio.sleep(0)
        teller.tell("hall", wire.Lag(behind_ms=4_000, level="warn"))
        await page.until(f"{STATE} === 'behind' && {OPEN}[0] === 'word 49'")
        assert await page.value("document.querySelectorAll('#open .line').length") == 1
