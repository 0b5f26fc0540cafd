"""One stream's life at the edge: audio in, numbered events out, whether or not a socket holds it.

Takes: decoded samples and the client's wishes. Gives: the stream's events to the hub, room to read on,
and an end. A session outlives its socket for a while, so that a speaker can come back. Nothing here
waits but ``room``. Knows no websocket and no query.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from captiond_engine.errors import CaptiondError
from captiond_engine.scheduler import Scheduler
from captiond_engine.stream import Stream
from captiond_engine.types import SAMPLE_RATE_HZ, AudioFrame, Float32Array, ms_from_samples

from captiond import wire
from captiond.config import LimitsConfig
from captiond.hub import Feed, Hub
from captiond.mailbox import Mailbox
from captiond.stopwatch import Stopwatch

log = logging.getLogger(__name__)

FRAME_SAMPLES = (
    SAMPLE_RATE_HZ // 4
)  # pieces of what is heard at once, so that one client cannot hold the loop
CloseReason = Literal["end", "client_gone", "replaced", "idle", "shutdown", "error"]


class Session:
    """Owned by ``Sessions``, which made it; ``owner`` is the connection that speaks into it now."""

    def __init__(
        self,
        feed: Feed,
        stream: Stream,
        *,
        hub: Hub,
        scheduler: Scheduler,
        limits: LimitsConfig,
        read_ahead: int,
        suppressed_text: bool,
        source: str,
        opened_at: float,
        on_closed: Callable[[Session], None],
    ) -> None:
        self.feed = feed
        self.source = source
        self.opened_at = opened_at
        self.owner: object | None = None
        self.token: str | None = None
        self.told_seq = feed.seq  # the last number that the speaker before this one was told
        self.closing: CloseReason | None = None
        self.error: str | None = None
        self.closed = asyncio.Event()
        self._box: Mailbox | None = None
        self._stream = stream
        self._hub = hub
        self._scheduler = scheduler
        self._limits = limits
        self._read_ahead = read_ahead
        self._suppressed_text = suppressed_text
        self._on_closed = on_closed
        self.first_seq = feed.seq  # the number before this session's first
        self._first_segment = feed.last_segment
        self._progress = asyncio.Event()
        self._lagging = False
        self._stopwatch = Stopwatch()
        self._expiry: asyncio.TimerHandle | None = None

    @property
    def name(self) -> str:
        return self.feed.name

    @property
    def heard_until(self) -> int:
        """Samples heard since the stream opened."""
        return self._stream.heard_until

    @property
    def behind_ms(self) -> int:
        """How much of what was heard has not been through a finished pass yet."""
        return ms_from_samples(self._stream.backlog)

    @property
    def speech_share(self) -> float:
        """How much of its time is speech, 0 to 1; 1 while that is not known."""
        return self._scheduler.speech_share(self._stream)

    def open(self) -> None:
        """Announce the stream and give it to the scheduler."""
        self._hub.open(self.name, self.source)
        self._scheduler.attach(self._stream, self._tell, self.boundary)
        told = {"stream": self.name, "source": self.source}
        log.info("stream %s opened (%s)", self.name, self.source, extra=told)

    # --- what its owner says ----------------------------------------------------------------------

    async def hear(self, pcm: Float32Array, owner: object, *, live: bool = False) -> None:
        """Push ``pcm`` as there is room; what is left when another owner takes over is dropped.

        A ``live`` source is never made to wait: too far behind, the stream jumps to what is said now.
        """
        loop = asyncio.get_running_loop()
        arrived = loop.time()
        for start in range(0, len(pcm), FRAME_SAMPLES):
            if live:
                self._keep_up()
            else:
                await self.room()
            if self.owner is not owner or self.closing:
                return
            piece = pcm[start : start + FRAME_SAMPLES]
            self._stream.push(AudioFrame(self.name, self.heard_until, piece, int(arrived * 1e9)))
            self._stopwatch.heard(self.heard_until, loop.time() - arrived)
            self._advance()
            await asyncio.sleep(0)

    async def room(self) -> None:
        """Wait while the stream is further behind than the daemon reads ahead."""
        while not self.closing and (
            self._stream.backlog > self._read_ahead or self._stream.room < FRAME_SAMPLES
        ):
            self._progress.clear()
            await self._progress.wait()

    def skip(self, samples: int, reason: str = "gap") -> None:
        """``samples`` of time in which nothing could be heard: told as lost, and time goes on after them."""
        if not self.closing:
            self._stream.skip(samples, reason)
            self._advance()

    def _keep_up(self) -> None:
        if self._stream.backlog > self._read_ahead:
            self._stream.jump_to_live()

    def flush(self) -> None:
        """Finish what has been heard; ``flushed`` follows its finals."""
        if not self.closing:
            self._stream.flush()
            self._advance()

    def configure(self, language: str | None, hints: str | None) -> None:
        """From the next segment on; None keeps what holds now."""
        if self.closing:
            return
        if language is not None:
            self._stream.configure(language=language)
        if hints is not None:
            self._stream.configure(hints=hints)
        told = wire.Configured() if language is None else wire.Configured(language=language)
        self._hub.publish(self.feed, told)

    def take(self, owner: object, box: Mailbox | None = None) -> None:
        """``owner`` speaks from now on, and hears its answers in ``box``."""
        self._note_told()
        self.owner, self._box = owner, box
        if self._expiry:
            self._expiry.cancel()
            self._expiry = None

    def lose(self, owner: object, *, orderly: bool) -> None:
        """``owner`` is gone without an end. An orderly leave finishes at once what was heard."""
        if self.owner is not owner or self.closing:
            return
        self._note_told()
        self.owner = self._box = None
        if orderly:
            self.flush()
        if not self._limits.resume_ms:
            self.end("client_gone")
        elif not self.closing:
            loop = asyncio.get_running_loop()
            self._expiry = loop.call_later(self._limits.resume_ms / 1000, self.end, "client_gone")

    def end(self, reason: CloseReason, error: str | None = None) -> None:
        """No more audio: the remaining finals, then ``stream.closed``, which tells ``error``, a code."""
        if self.closing:
            return
        self.closing, self.error = reason, error
        with self.boundary():
            self._stream.close()
            self._advance()

    def abandon(self) -> None:
        """The time for its last finals is over: what was shown becomes final, the rest is told as lost."""
        with self.boundary():
            self._stream.jump_to_live("shutdown", wait=False)
            self._tell()

    @contextmanager
    def boundary(self) -> Iterator[None]:
        """Where a fault of this stream stops: it ends this session and no other."""
        try:
            yield
        except Exception as error:  # the one broad except: whatever it is, others must not suffer
            code = error.code if isinstance(error, CaptiondError) else "internal"
            log.exception("stream %s failed", self.name, extra={"stream": self.name, "code": code})
            self.fail(code)

    def fail(self, code: str) -> None:
        """End at once, without waiting for what the stream still owes."""
        self.closing, self.error = "error", code
        self._finish()

    def _note_told(self) -> None:
        if self._box is not None:
            self.told_seq = self._box.told_seq

    # --- what the engine says ----------------------------------------------------------------------

    def _advance(self) -> None:
        self._scheduler.notify(self._stream)
        self._tell()

    def _tell(self) -> None:
        if self.closed.is_set():
            return
        now = asyncio.get_running_loop().time()
        for event in self._stream.take_events():
            self._hub.publish(
                self.feed,
                wire.from_engine(
                    self._stopwatch.complete(event, now),
                    first_segment=self._first_segment,
                    suppressed_text=self._suppressed_text,
                ),
            )
        self._watch_lag()
        self._progress.set()
        if self._stream.done:
            self._finish()

    def _watch_lag(self) -> None:
        behind_ms = self.behind_ms
        if not self._lagging and behind_ms > self._limits.lag_warn_ms:
            self._lagging = True
            self._hub.publish(self.feed, wire.Lag(behind_ms=behind_ms, level="warn"))
        elif self._lagging and behind_ms <= self._limits.lag_warn_ms // 2:
            self._lagging = False
            self._hub.publish(self.feed, wire.Lag(behind_ms=behind_ms, level="ok"))

    def _finish(self) -> None:
        if self.closed.is_set():
            return
        self.closed.set()
        self._progress.set()
        if self._expiry:
            self._expiry.cancel()
        self._scheduler.detach(self._stream)
        self._hub.close(self.feed, self.closing or "end", self.error)
        told = {"stream": self.name, "reason": self.closing, "code": self.error}
        log.info("stream %s closed (%s)", self.name, self.error or self.closing, extra=told)
        self._on_closed(self)
