"""``[[source]] kind = "network"``: a camera, a radio, an HLS playlist into a stream, for ever.

Takes: one source's configuration. Gives: its sound to a session, and the time in which there was none as
lost. A server that is away, or that ends what it sends, is asked again until it is back; meanwhile the
stream stays open and its time goes on, and the other streams do not notice. An address is never told
onwards: it may hold a password.
"""

from __future__ import annotations

import asyncio
import logging
import random
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import numpy as np
from captiond_engine.errors import AudioError, ConfigError
from captiond_engine.types import SAMPLE_RATE_HZ

from captiond.config import NetworkSource
from captiond.containers import media
from captiond.containers.decoder import Decoder, Gap, Opened, address_of, decoding
from captiond.context import Context
from captiond.health import Health
from captiond.messages import ClientError
from captiond.session import Session
from captiond.sessions import Wishes

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
STEADY_S = 30.0  # a server that gave sound for so long is asked again soon
SLACK_S = 10.0  # beyond the server's own time, for a decoder that must say that it is over
LEAST_LOST = SAMPLE_RATE_HZ // 100  # what a break costs at least: speech before and after it is not one
PASSING = frozenset(("stream_taken", "overloaded", "shutting_down"))  # why a stream is refused now; later not


async def play(source: NetworkSource, context: Context, health: Health) -> None:
    """Hear the address until its stream ends with the daemon.

    Raises ConfigError where trying again is of no use, ClientError for wishes that the model cannot meet.
    """
    if not media.installed():
        raise ConfigError("network sources need PyAV.", advice=media.ADVICE, code="extra_missing")
    address = await asyncio.to_thread(address_with_password, source)
    await Receiver(source, address, context, health).run()


def address_with_password(source: NetworkSource) -> str:
    """The source's address with its user name and password in it. Raises ConfigError."""
    if not source.username:
        return source.url
    password = ""
    if source.password_file:
        try:
            password = Path(source.password_file).read_text("utf-8").strip("\r\n")
        except (OSError, UnicodeDecodeError):
            raise ConfigError(f"{source.password_file}: this password cannot be read.") from None
    parts = urlsplit(source.url)
    pair = f"{quote(source.username, safe='')}:{quote(password, safe='')}"
    return urlunsplit(parts._replace(netloc=f"{pair}@{parts.netloc}"))


class Receiver:
    """One source; ``run`` it once."""

    def __init__(self, source: NetworkSource, address: str, context: Context, health: Health) -> None:
        self._source = source
        self._address = address
        self._context = context
        self._health = health
        self._session: Session | None = None
        self._heard_at = 0.0  # the loop's time at the end of what the stream was told of
        self._away = True
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
        """Ask the server and listen until the stream closes, or until something is wrong: a sentence."""
        timeout_s = self._source.timeout_ms / 1000
        began = asyncio.get_running_loop().time()
        try:
            request = address_of(self._address, timeout_s)
            async with decoding(request, deadline_s=timeout_s + SLACK_S) as decoder:
                await self._listen(decoder)
            return "" if self._session and self._session.closing else "Its server sends no more."
        except AudioError as error:
            return str(error)
        except ClientError as error:
            if error.code not in PASSING:
                raise
            return str(error)
        finally:
            if not self._away and asyncio.get_running_loop().time() - began >= STEADY_S:
                self._tries = 0
            self._away = True

    async def _listen(self, decoder: Decoder) -> None:
        """Say what comes until the stream closes or the server ends. Raises AudioError."""
        loop = asyncio.get_running_loop()
        opened: Opened | None = None
        try:
            async for heard in decoder.heard():
                if isinstance(heard, Opened):
                    opened = heard
                    continue
                session = await self._open()
                if session.closing:
                    return
                with session.boundary():
                    if isinstance(heard, np.ndarray):
                        self._recover(session, opened)
                        await session.hear(heard, self, live=True)
                    elif isinstance(heard, Gap) and not self._away:
                        session.skip(heard.samples, "network")
                self._heard_at = loop.time()
        finally:
            if self._session is not None and not self._away:
                self._lose(self._session, LEAST_LOST)

    async def _open(self) -> Session:
        """The stream, whose time begins with its first sound."""
        if self._session is None:
            wishes = Wishes(self._source.language or None, self._source.prompt)
            self._session = await self._context.sessions.open(self._source.name, "network", wishes, self)
            self._heard_at = asyncio.get_running_loop().time()
        return self._session

    def _lose(self, session: Session, least: int = 0) -> None:
        """Tell the time since the stream was last told of anything as lost."""
        now = asyncio.get_running_loop().time()
        samples = max(least, round((now - self._heard_at) * SAMPLE_RATE_HZ))
        if samples > 0:
            session.skip(samples, "network")
            self._heard_at += samples / SAMPLE_RATE_HZ

    def _recover(self, session: Session, opened: Opened | None) -> None:
        """The first sound after a break."""
        if not self._away:
            return
        self._lose(session)
        self._away, self._trouble = False, ""
        self._health.ok()
        kind = f"{opened.codec} in {opened.format}" if opened else "audio"
        log.info("source %s is heard: %s", self._source.name, kind)

    async def _wait(self, trouble: str) -> None:
        """Say what is wrong, and wait before the next try: longer each time, and not in step with others."""
        if trouble != self._trouble:
            log.warning("source %s: %s", self._source.name, trouble)
        self._trouble = trouble
        self._health.trouble(
            f"Source {self._source.name}: {trouble} "
            f"It is tried again every {FIRST_PAUSE_S:g} to {LONGEST_PAUSE_S:g} s."
        )
        pause = max(FIRST_PAUSE_S, min(LONGEST_PAUSE_S, 2.0**self._tries) * random.uniform(0.7, 1.0))
        self._tries = min(self._tries + 1, 10)
        closed = self._session.closed if self._session else asyncio.Event()
        try:
            async with asyncio.timeout(pause):
                await closed.wait()
        except TimeoutError:
            return
