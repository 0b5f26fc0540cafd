"""What the segments of one stream are told of language and hints, and from where on.

Takes: wishes, each with the sample from which it holds. Gives: the prompt of a segment that begins. A wish
must not overtake audio that is held and was not listened to yet.
"""

from __future__ import annotations

from collections import deque

from captiond_engine.stream_settings import Keep
from captiond_engine.types import PromptSpec


class Prompts:
    """``waiting``: wishes that the stream has not come to."""

    def __init__(self, prompt: PromptSpec) -> None:
        self._now = prompt
        self._wishes: deque[tuple[int, PromptSpec]] = deque()

    @property
    def waiting(self) -> int:
        return len(self._wishes)

    def wish(self, at: int, seen: int, language: str | Keep | None, hints: str | Keep) -> None:
        """From sample ``at`` on; all before ``seen`` was listened to."""
        self.at(seen)
        prompt = self._wishes[-1][1] if self._wishes else self._now
        if not isinstance(language, Keep):
            prompt = prompt._replace(language=language)
        if not isinstance(hints, Keep):
            prompt = prompt._replace(hints=hints)
        if self._wishes and self._wishes[-1][0] == at:
            self._wishes.pop()
        self._wishes.append((at, prompt))

    def at(self, sample: int) -> PromptSpec:
        """What holds for a segment that is found when all before ``sample`` was listened to."""
        while self._wishes and self._wishes[0][0] < sample:
            self._now = self._wishes.popleft()[1]
        return self._now
