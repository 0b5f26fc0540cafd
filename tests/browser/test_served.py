"""What the pages are made of: nothing inline, nothing from elsewhere, nothing unbounded."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import captiond.http
import pytest

from tests.browser.chromium import chromium_page
from tests.browser.door import door_to
from tests.browser.reading import LINES, LIVE, STATE, Teller, needs_chromium
from tests.clients.test_with_daemon import line_to
from tests.daemon.house import configured, house

PAGES = captiond.http.pages_folder()
IMPORT = re.compile(r"""^(?:import|export)\b[^;]*?from "\./([\w-]+\.js)";""", re.MULTILINE)
# Timers that are set and have neither fired nor been cleared.
COUNT_TIMERS = """
(() => {
  window.timers = new Set();
  const [set, clear] = [setTimeout.bind(window), clearTimeout.bind(window)];
  window.setTimeout = (work, ...rest) => {
    const timer = set(() => { timers.delete(timer); work(); }, ...rest);
    timers.add(timer);
    return timer;
  };
  window.clearTimeout = (timer) => { timers.delete(timer); clear(timer); };
  window.setInterval = () => { throw new Error("an interval"); };
})()
"""


def source(name: str) -> str:
    assert PAGES is not None
    return (PAGES / name).read_text("utf-8")


def loaded_by(name: str) -> set[str]:
    """The module and all that it cannot do without."""
    found, waiting = set(), [name]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += IMPORT.findall(source(module))
    return found


@pytest.mark.parametrize("page", ["captions", "overlay"])
def test_a_page_has_nothing_inline_and_nothing_from_elsewhere(page: str) -> None:
    html = source(f"{page}.html")
    assert not re.search(r"<style|\bstyle=|\bon\w+=|javascript:|https?://|//\w", html)
    assert re.findall(r"<script([^>]*)>([^<]*)</script>", html) == [
        (f' src="boot.js" data-main="{page}.js" defer', "")
    ]
    assert set(re.findall(r'modulepreload" href="([^"]+)"', html)) == loaded_by(f"{page}.js")


def test_no_module_makes_markup_of_text() -> None:
    assert PAGES is not None
    modules = sorted(PAGES.glob("*.js"))
    assert len(modules) > 10
    for module in modules:
        text = module.read_text("utf-8")
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(|new Function", text
        )
        assert not re.search(r"https?://(?!\"| or )", text.replace("https:// or", "")), module.name
        assert text.count("\n") <= 250, f"{module.name} is long"
        assert text.startswith("// "), f"{module.name} does not say what it is"


async def test_pages_are_served_with_a_strict_policy_and_their_types() -> None:
    types = {
        "/": "text/html; charset=utf-8",
        "/overlay": "text/html; charset=utf-8",
        "/captions.js": "text/javascript; charset=utf-8",
        "/lines.css": "text/css; charset=utf-8",
        "/icon.svg": "image/svg+xml",
    }
    async with house() as home:
        for path, kind in types.items():
            answer = await home.get(path)
            assert (answer.status, answer.headers["content-type"]) == (200, kind)
            policy = answer.headers["content-security-policy"]
            assert "unsafe" not in policy
            assert policy.startswith("default-src 'none'; script-src 'self';")
            assert "microphone=(self)" in answer.headers["permissions-policy"]
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert answer.headers["x-content-type-options"] == "nosniff"


@needs_chromium
async def test_a_page_of_which_a_part_did_not_come_is_loaded_again() -> None:
    left = 3

    def refuse_some(head: bytes) -> bytes:
        nonlocal left
        left -= head.startswith(b"GET /board.js ") and left > 0
        return b"" if head.startswith(b"GET /board.js ") and left else head

    async with (
        house() as home,
        door_to(home.netloc, refuse_some) as url,
        chromium_page("about:blank") as page,
    ):
        await page.call("Page.navigate", url=f"{url}/")
        await page.until(f"document.getElementById('status') && {STATE} === 'live'", timeout_s=60)
        assert await page.value("sessionStorage.getItem('captiond.loads')") is None


@needs_chromium
async def test_no_timers_pile_up_however_often_the_line_is_lost() -> None:
    config = configured(limits={"accepts_per_s": 1_000})
    async with (
        house(config=config) as home,
        line_to(urlsplit(home.address).netloc) as line,
        chromium_page("about:blank") as page,
    ):
        await page.call("Page.addScriptToEvaluateOnNewDocument", source=COUNT_TIMERS)
        await page.go(f"{line.url}/")
        await page.until(LIVE)
        teller = Teller(home)
        counts = []
        for number in range(12):
            teller.final(f"line {number}")
            await page.until(f"{LINES}.length === {number + 1}")
            line.cut()
            await page.until(f"{STATE} === 'lost'")
            await page.value("dispatchEvent(new Event('online'))")  # do not wait
            await page.value("document.dispatchEvent(new Event('visibilitychange'))")
            await page.until(LIVE)
            counts.append(await page.value("timers.size"))
        assert max(counts) <= 5, counts
        assert page.complaints == []


@needs_chromium
async def test_what_a_page_remembers_is_bounded() -> None:
    """A year of streams with new names, and of finals of one stream."""
    fill = """
    (async () => {
      const { Ledger } = await import("/ledger.js");
      const { Presence } = await import("/presence.js");
      const { Transcript } = await import("/transcript.js");
      const [ledger, presence] = [new Ledger(), new Presence()];
      const transcript = new Transcript("*", { kept: 50 });
      const final = { type: "transcript.final", segment: 1, start_ms: 0, end_ms: 1, text: "word" };
      for (let number = 1; number <= 3000; number += 1) {
        presence.take({ ...final, stream: `stream-${number}`, seq: 1 });
        ledger.admit({ ...final, stream: `stream-${number}`, seq: 1 });
        ledger.admit({ ...final, stream: "hall", seq: number });
        transcript.take({ ...final, stream: "hall", seq: number });
      }
      const [, last, finals] = ledger.dump().find(([name]) => name === "hall") ?? [];
      return [ledger.dump().length, last, finals?.length, presence.list().length, transcript.entries.length];
    })()
    """
    async with house() as home, chromium_page(home.address) as page:
        streams, last, finals, present, entries = await page.value(fill)
        assert (streams, present, entries) == (256, 65, 50)
        assert (last, finals) == (3_000, 1_000)


def test_the_modules_are_found_where_the_wheel_puts_them() -> None:
    assert PAGES is not None
    assert {path.suffix for path in Path(PAGES).iterdir()} <= {".html", ".css", ".js", ".svg"}


async def test_modules_come_to_a_page_that_a_proxy_gave_another_name() -> None:
    async with house() as home:
        assert (await home.get("/captions.js", Origin="https://captions.example")).status == 200
        assert (await home.get("/v1/streams", Origin="https://captions.example")).status == 403
