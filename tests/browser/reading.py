"""What the tests ask the pages, and how they put words into a daemon's mouth.

Expressions are JavaScript for ``Page.value`` and ``Page.until``. ``Teller`` publishes events in the hub of a
running daemon, as a session would, whatever a model would have said.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from captiond import wire
from captiond.hub import Hub

from tests.browser.chromium import Page, chromium_path
from tests.daemon.house import House

needs_chromium = pytest.mark.skipif(
    chromium_path() is None, reason="Chromium is not installed (Debian: apt install chromium)"
)

LINES = "[...document.querySelectorAll('#finals .final .text')].map((line) => line.textContent)"
NOTES = "[...document.querySelectorAll('#finals .note .text')].map((line) => line.textContent)"
OPEN = "[...document.querySelectorAll('#open .text')].map((line) => line.textContent)"
STATUS = "document.getElementById('status').textContent"
STATE = "document.getElementById('status').dataset.state"
LIVE = f"{STATE} === 'live'"
SCROLL = "document.getElementById('scroll')"
AT_THE_END = f"{SCROLL}.scrollHeight - {SCROLL}.scrollTop - {SCROLL}.clientHeight < 5"


async def lines(page: Page) -> list[str]:
    return list(await page.value(LINES))


async def visible(page: Page, element: str) -> bool:
    return bool(await page.value(f"document.getElementById('{element}').checkVisibility()"))


async def style(page: Page, selector: str, name: str) -> str:
    return str(await page.value(f"getComputedStyle(document.querySelector('{selector}')).{name}"))


@dataclass
class Teller:
    """Events of ``home``'s streams. Segments are counted here, as the engine counts them."""

    home: House
    _segments: dict[str, int] = field(default_factory=dict)
    _times: dict[str, int] = field(default_factory=dict)

    @property
    def hub(self) -> Hub:
        context = self.home.app.context
        assert context is not None
        return context.hub

    def tell(self, stream: str, event: wire.Event) -> None:
        self.hub.publish(self.hub.feed(stream), event)

    def start(self, stream: str = "hall") -> int:
        """Speech has begun; the segment's number."""
        segment = self._segments[stream] = self._segments.get(stream, 0) + 1
        self.tell(stream, wire.SpeechStarted(segment=segment, at_ms=self._times.get(stream, 0)))
        return segment

    def partial(self, segment: int, committed: str, tentative: str, stream: str = "hall") -> None:
        start_ms = self._times.get(stream, 0)
        told = wire.Partial(
            segment=segment,
            revision=1,
            committed=committed,
            tentative=tentative,
            start_ms=start_ms,
            heard_until_ms=start_ms + 500,
        )
        self.tell(stream, told)

    def end(self, segment: int, text: str, stream: str = "hall") -> None:
        """The segment is over and has its final."""
        start_ms = self._times.get(stream, 0)
        end_ms = self._times[stream] = start_ms + 1_500
        self.tell(stream, wire.SpeechEnded(segment=segment, at_ms=end_ms, reason="silence"))
        self.tell(
            stream, wire.Final(segment=segment, text=text, start_ms=start_ms, end_ms=end_ms, language="en")
        )

    def final(self, text: str, stream: str = "hall") -> None:
        self.end(self.start(stream), text, stream)
