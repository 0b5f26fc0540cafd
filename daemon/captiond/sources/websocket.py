"""``/v1/speak``: a client's audio and text messages into a session, its stream's events back.

Takes: one websocket. Gives: audio and wishes to the session, and an ``error`` event for whatever cannot
be used; the session lives on wherever it can. Knows no engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from captiond_engine.errors import AudioError
from captiond_engine.types import Float32Array, ms_from_samples, samples_from_ms
from msgspec import UNSET
from msgspec.structs import replace
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from captiond import messages, wire
from captiond.context import Context
from captiond.hub import Missed
from captiond.mailbox import Mailbox
from captiond.messages import ClientError
from captiond.query import SpeakQuery, parse_speak
from captiond.session import Session
from captiond.sessions import Wishes
from captiond.sinks.captions import deliver, keep_alive, refuse
from captiond.sources.intake import intake_of

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 1.0  # at a client that is silent because we do not read it
MENDED = "stream %s: %d samples were no sound or too loud"


async def speak(connection: ServerConnection, context: Context) -> None:
    """One speaker, from hello to the last final."""
    try:
        query = parse_speak(connection.request.path if connection.request else "")
        speaker = await _admit(connection, context, query)
    except ClientError as error:
        await refuse(connection, error)
        return
    session, limits = speaker.session, context.config.limits
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(
                deliver(connection, speaker.box, limits.stall_ms / 1000), name=f"{session.name} writing"
            )
            others = [
                tasks.create_task(
                    keep_alive(connection, limits.ping_ms / 1000, lambda: speaker.last_said),
                    name=f"{session.name} pulse",
                ),
                tasks.create_task(speaker.watch_idle(limits.idle_ms / 1000), name=f"{session.name} idle"),
                tasks.create_task(speaker.say_goodbye(), name=f"{session.name} goodbye"),
                tasks.create_task(speaker.decode(), name=f"{session.name} decoding"),
            ]
            with session.boundary():
                await speaker.listen()
            for task in others:
                task.cancel()
            speaker.leave()
    finally:
        context.hub.unsubscribe(session.name, speaker.box)
        speaker.forget()


async def _admit(connection: ServerConnection, context: Context, query: SpeakQuery) -> Speaker:
    """A new session or the one that the client comes back to, and its box with hello in it."""
    sessions, hub = context.sessions, context.hub
    speaker = Speaker(connection, context, query)
    box = hub.mailbox(query.view, speaks=True)
    if query.resume:
        session, before = sessions.resume(query.resume, connection, box)
        if isinstance(before, ServerConnection):
            before.transport.abort()  # it is half open, or its owner would not have come back
        missed = Missed(0, query.epoch, session.told_seq if query.since is None else query.since)
    else:
        wishes = Wishes(query.language, query.prompt)
        session = await sessions.open(query.stream, "websocket", wishes, connection, box, guest=True)
        missed = Missed(since=session.first_seq)
    heard_ms = ms_from_samples(session.heard_until)
    hello = replace(
        hub.hello(),
        resume=sessions.give_token(session) if context.config.limits.resume_ms else UNSET,
        heard_until_ms=heard_ms if query.resume else UNSET,
    )
    hub.subscribe(session.name, box, hello, missed)
    # hello names whole milliseconds; what was heard beyond them the client sends a second time.
    twice = session.heard_until - samples_from_ms(heard_ms)
    speaker.speak_into(session, box, twice)
    return speaker


class Speaker:
    """One connection that speaks into ``session``."""

    session: Session
    box: Mailbox

    def __init__(self, connection: ServerConnection, context: Context, query: SpeakQuery) -> None:
        self._connection = connection
        self._context = context
        self._intake = intake_of(query, self._hear, self._skip)
        self._twice = 0
        self._refused: str | None = None  # the code for which its bytes were refused
        self.last_said = asyncio.get_running_loop().time()

    def speak_into(self, session: Session, box: Mailbox, twice: int) -> None:
        """``twice``: samples to drop, as they were heard before."""
        self.session, self.box, self._twice = session, box, twice

    async def listen(self) -> None:
        """Take what the client says until the connection ends."""
        with contextlib.suppress(ConnectionClosed):
            async for message in self._connection:
                self.last_said = asyncio.get_running_loop().time()
                if isinstance(message, bytes):
                    await self._intake.take(message)
                else:
                    await self._obey(message)
                    await asyncio.sleep(0)  # those who listen take what was said before more is said
        await self._intake.leave()

    async def decode(self) -> None:
        """Hear what the bytes say. Bytes that say nothing end the session, with finals of what they said."""
        with self.session.boundary():
            try:
                await self._intake.run()
            except AudioError as error:
                log.info("stream %s: %s", self.session.name, error)
                self._refused = error.code
                self._complain(ClientError(error.code, str(error)), fatal=True)
                self.session.end("error", error.code)

    def forget(self) -> None:
        """Hold on to nothing, so that memory is free at once and not when cycles are looked for."""
        del self._intake

    def leave(self) -> None:
        """The connection is gone, or a fault of ours has ended its session."""
        if self._intake.mended:
            log.info(
                "stream %s: %d samples were no sound or too loud", self.session.name, self._intake.mended
            )
        self.session.lose(self._connection, orderly=self._connection.close_code == wire.CLOSE_DONE)
        self._finish()

    async def watch_idle(self, idle_s: float) -> None:
        """End a session whose client says nothing for ``idle_s``; 0 waits for ever."""
        loop = asyncio.get_running_loop()
        while idle_s:
            await asyncio.sleep(max(LOOK_AGAIN_S, self.last_said + idle_s - loop.time()))
            if self.last_said + idle_s <= loop.time() and not self._connection.recv_messages.paused:
                self._complain(ClientError("idle", f"Nothing was said for {idle_s:g} s."), fatal=True)
                self.session.end("idle")
                return

    async def say_goodbye(self) -> None:
        """Once the stream is closed and all is told, close the connection with the code that says why."""
        await self.session.closed.wait()
        self._finish()

    def _finish(self) -> None:
        match self.session.closing:
            case "shutdown":
                self.box.finish(wire.CLOSE_SHUTDOWN, "the daemon is stopping")
            case "error" if self._refused and self._refused != "decoder_failed":
                self.box.finish(wire.CLOSE_POLICY, self._refused)
            case "error":
                self.box.finish(wire.CLOSE_INTERNAL, self.session.error or "internal")
            case "idle":
                self.box.finish(wire.CLOSE_POLICY, "idle")
            case _:
                self.box.finish(wire.CLOSE_DONE)

    async def _hear(self, pcm: Float32Array) -> None:
        if self._twice:
            dropped = min(self._twice, len(pcm))
            self._twice -= dropped
            pcm = pcm[dropped:]
        await self.session.hear(pcm, self._connection)

    def _skip(self, samples: int) -> None:
        if self.session.owner is self._connection:
            self.session.skip(samples)

    async def _obey(self, text: str) -> None:
        try:
            message = messages.parse_client_message(text)
            match message:
                case messages.Flush():
                    await self._intake.then(self.session.flush)
                case messages.End():
                    await self._intake.finish()
                    self.session.end("end")
                case messages.Configure(language=language, prompt=prompt):
                    wishes = self._context.sessions.wish(language or None, prompt or None)
                    await self._intake.then(lambda: self.session.configure(*wishes))
                case messages.Keepalive():
                    pass
                case None:
                    log.debug("stream %s: a message of a type unknown here", self.session.name)
        except ClientError as error:
            self._complain(error, fatal=False)

    def _complain(self, error: ClientError, *, fatal: bool) -> None:
        told = wire.Error(code=error.code, message=error.message, fatal=fatal)
        self._context.hub.tell(self.session.feed, self.box, told)
