"""``[[source]] kind = "microphone"``: a device of this machine into a stream, for as long as the daemon runs.

Takes: one source's configuration. Gives: its sound to a session, and the time in which there was none as
lost. A device that is not there, busy or gone is tried again until it is back; meanwhile the stream stays
open and its time goes on, and the other streams do not notice.
"""

from __future__ import annotations

import asyncio
import logging
import random

from captiond_engine.types import SAMPLE_RATE_HZ

from captiond.capture.capture import Capture
from captiond.capture.inputs import CaptureError, CaptureInterruptedError
from captiond.capture.portaudio import PortAudio, the_portaudio
from captiond.capture.timeline import CaptureTimeline, Lost, Piece
from captiond.config import MicrophoneSource
from captiond.context import Context
from captiond.health import Health
from captiond.messages import ClientError
from captiond.session import Session
from captiond.sessions import Wishes

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
WORTH_LOGGING_S = 0.01
STEADY_S = 30.0  # a device that gave sound for so long is tried again soon
PASSING = frozenset(("stream_taken", "overloaded", "shutting_down"))  # why a stream is refused now; later not


async def play(source: MicrophoneSource, context: Context, health: Health) -> None:
    """Hear the microphone until its stream ends with the daemon.

    Raises ConfigError where trying again is of no use, ClientError for wishes that the model cannot meet.
    """
    await Microphone(source, context, health, the_portaudio()).run()


class Microphone:
    """One source; ``run`` it once."""

    def __init__(
        self, source: MicrophoneSource, context: Context, health: Health, portaudio: PortAudio
    ) -> None:
        self._source = source
        self._context = context
        self._health = health
        self._portaudio = portaudio
        self._session: Session | None = None
        self._timeline = CaptureTimeline(0.0)
        self._tries = 0  # that failed in a row
        self._trouble = ""

    async def run(self) -> None:
        """Listen and try again, until the stream is closed in good order."""
        while True:
            session = self._session
            if session is None or not session.closing:
                trouble = await self._hear_out()
            else:
                await session.closed.wait()
                if not session.error:
                    return
                trouble = f"Its stream has failed ({session.error})."
                self._session = None
            if trouble:
                await self._wait(trouble)

    async def _hear_out(self) -> str:
        """Open the device and listen until the stream closes, or until something is wrong: a sentence."""
        try:
            async with self._portaudio.capture(self._source.device, self._source.channel) as capture:
                await self._listen(capture)
        except CaptureInterruptedError:
            return ""
        except CaptureError as error:
            return str(error)
        except ClientError as error:
            if error.code not in PASSING:
                raise
            return str(error)
        return ""

    async def _listen(self, capture: Capture) -> None:
        """Say what ``capture`` hears until the stream closes. Raises CaptureError when the device is gone."""
        loop = asyncio.get_running_loop()
        blocks = await capture.take()
        session = await self._open()
        self._timeline.start(capture.rate_hz)
        self._recover(capture)
        began = loop.time()
        try:
            while not session.closing:
                for block in blocks:
                    await self._say(session, self._timeline.take(block))
                blocks = await capture.take()
        except CaptureError:
            if loop.time() - began >= STEADY_S:
                self._tries = 0
            await self._say(session, self._timeline.stop(loop.time()))
            raise

    async def _open(self) -> Session:
        """The stream, whose time begins with its first sound or with the first try that failed."""
        if self._session is None:
            wishes = Wishes(self._source.language or None, self._source.prompt)
            sessions = self._context.sessions
            self._session = await sessions.open(self._source.name, "microphone", wishes, self)
            self._timeline = CaptureTimeline(asyncio.get_running_loop().time())
        return self._session

    async def _say(self, session: Session, pieces: list[Piece]) -> None:
        with session.boundary():
            for piece in pieces:
                if isinstance(piece, Lost):
                    session.skip(piece.samples, piece.reason)
                    lost_s = piece.samples / SAMPLE_RATE_HZ
                    if lost_s >= WORTH_LOGGING_S:
                        told = {"stream": session.name, "reason": piece.reason}
                        log.warning(
                            "stream %s: %.2f s not heard (%s)", session.name, lost_s, piece.reason, extra=told
                        )
                else:
                    await session.hear(piece, self, live=True)

    def _recover(self, capture: Capture) -> None:
        self._trouble = ""
        self._health.ok()
        log.info("microphone %s: %s at %d Hz", self._source.name, capture.device.full_name, capture.rate_hz)

    async def _wait(self, trouble: str) -> None:
        """Say what is wrong, and wait before the next try: longer each time, and not in step with others."""
        if trouble != self._trouble:
            told = {"stream": self._source.name}
            log.warning("microphone %s: %s", self._source.name, trouble, extra=told)
        self._trouble = trouble
        self._health.trouble(
            f"Microphone {self._source.name}: {trouble} "
            f"It is tried again every {FIRST_PAUSE_S:g} to {LONGEST_PAUSE_S:g} s."
        )
        pause = max(FIRST_PAUSE_S, min(LONGEST_PAUSE_S, 2.0**self._tries) * random.uniform(0.7, 1.0))
        self._tries = min(self._tries + 1, 10)
        try:
            async with asyncio.timeout(pause):
                session = await self._open()
                await session.closed.wait()
        except TimeoutError:
            return
        except ClientError as error:
            if error.code not in PASSING:
                raise
            await asyncio.sleep(pause)
