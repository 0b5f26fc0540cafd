"""Speaking: one stream of our own that outlives its sockets.

Takes audio bytes and gives the stream's events. One task (``read``) owns the socket's life: it receives,
reconnects with the daemon's resume token and sends again what the daemon had not heard. What may have to be
sent again is held in an AudioOutbox; so that it suffices, only so much audio is under way at a time, measured
by pings (a pong means that everything before it has arrived). Knows no files, devices or pace.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from captiond_clients.audio_outbox import AudioOutbox
from captiond_clients.connection import Backoff, closed_error, open_socket
from captiond_clients.errors import ClientError, RefusedError, UnreachableError
from captiond_clients.events import ErrorEvent, Event, Final, Flushed, Hello, StreamClosed, parse
from captiond_clients.inbox import Inbox
from captiond_clients.ping_window import PingWindow
from captiond_clients.speak_request import SpeakRequest

# The daemon reads 30 s ahead of what it has heard (protocol.md); with 20 s under way 60 s cover a resume.
OUTBOX_MS = 60_000
PING_EVERY_MS = 5_000
PIECE_BYTES = 32 << 10
RECEIVED_MESSAGES = 256  # wait in the socket while the outbox is sent again, which reads nothing
LAST_WORDS_S = 30.0  # how long a stream that we were cut off from may take to say its last


class Speaker:
    """Send audio, iterate for events. Made by ``client.speak``."""

    def __init__(
        self, request: SpeakRequest, on_trouble: Callable[[ClientError], None] | None = None
    ) -> None:
        self._request = request
        self._on_trouble = on_trouble
        self._outbox = AudioOutbox(request.shape, OUTBOX_MS)
        self._backoff = Backoff(request.patience_s)
        self._writing = asyncio.Lock()
        self._up = asyncio.Event()  # connected, or finished for good
        self._inbox = Inbox()
        self._under_way = PingWindow(request.shape.bytes_of(PING_EVERY_MS))
        self._socket: ClientConnection | None = None
        self._hello: Hello | None = None
        self._told = 0  # the newest seq that went into the inbox, in this epoch
        self._fatal: ErrorEvent | None = None
        self._failure: ClientError | None = None
        self._finished = False
        self._ended = False

    @property
    def stream(self) -> str | None:
        """The stream's name, as the daemon knows it."""
        return (self._hello.stream if self._hello else None) or self._request.stream

    # --- what the caller does --------------------------------------------------------------------

    async def send(self, audio: bytes) -> None:
        """Audio in the encoding agreed on, cut anywhere. Waits where the daemon reads no further.

        Raises the ClientError that ended the stream, and ValueError after ``end()``.
        """
        if self._ended:
            raise ValueError("audio after end()")
        for offset in range(0, len(audio), PIECE_BYTES):
            piece = bytes(audio[offset : offset + PIECE_BYTES])
            await self._may_send()
            async with self._writing:
                self._outbox.add_audio(piece)
                await self._write(piece)

    async def flush(self) -> None:
        """Asks for the finals of everything sent so far; a ``Flushed`` event follows them."""
        await self._control({"type": "flush"})

    async def end(self) -> None:
        """No more audio. The remaining finals and ``StreamClosed`` follow, then iteration ends."""
        if not self._ended:
            self._ended = True
            await self._control({"type": "end"})

    def __aiter__(self) -> Speaker:
        return self

    async def __anext__(self) -> Event:
        event = await self._inbox.take()
        if event is None:
            raise StopAsyncIteration
        return event

    # --- sending -----------------------------------------------------------------------------------

    async def _control(self, message: dict[str, str]) -> None:
        await self._may_send()
        async with self._writing:
            text = json.dumps({"v": 1, **message})
            self._outbox.add_control(text)
            await self._write(text)

    async def _may_send(self) -> None:
        await self._up.wait()
        while self._under_way.full:
            await self._under_way.room()
            await self._up.wait()
        if self._failure is not None:
            raise self._failure

    async def _write(self, message: bytes | str) -> None:
        """Sends; a socket that is lost meanwhile is the reader's to replace, with all of the outbox."""
        assert self._socket is not None, "open() comes first"
        with suppress(ConnectionClosed):
            await self._socket.send(message)
            await self._under_way.written(self._socket, len(message))

    # --- the socket's life -------------------------------------------------------------------------

    async def open(self) -> None:
        """The first connection; it is not waited for."""
        self._socket, self._hello = await self._connect(self._request.address())
        await self._inbox.put(self._hello)
        self._up.set()

    async def _connect(self, address: str) -> tuple[ClientConnection, Hello]:
        return await open_socket(address, self._request.token, max_queue=RECEIVED_MESSAGES)

    async def close(self) -> None:
        if self._socket is not None:
            await self._socket.close()

    async def read(self) -> None:
        """Receives until the stream is closed or cannot be continued. Run as one task."""
        try:
            while not self._finished:
                assert self._socket is not None, "open() comes first"
                try:
                    message = await self._socket.recv()
                except ConnectionClosed as closed:
                    await self._closed(closed)
                    continue
                if isinstance(message, str):
                    await self._take(parse(message))
        except ClientError as error:
            self._failure = error
        finally:
            self._finished = True
            self._up.set()
            self._inbox.finish(self._failure)

    async def _take(self, event: Event) -> None:
        if isinstance(event, ErrorEvent):
            self._fatal = event if event.fatal else None
        elif event.seq <= self._told and event.seq:
            return  # told before the socket was lost
        else:
            self._told = max(self._told, event.seq)
            self._backoff.news()
        if isinstance(event, Final):
            self._outbox.answered(event.end_ms)
        elif isinstance(event, Flushed):
            self._outbox.answered(event.heard_until_ms)
            self._outbox.control_answered()
        if self._request.wants(event):
            await self._inbox.put(event)

    async def _closed(self, closed: ConnectionClosed) -> None:
        if self._fatal is not None:
            raise RefusedError(self._fatal.code, self._fatal.message) from closed
        if closed.rcvd is not None and closed.rcvd.code == 1000:
            self._finished = True
            return
        failure = closed_error(closed)
        if not isinstance(failure, UnreachableError):
            raise failure
        self._up.clear()
        while True:
            await self._backoff.wait(failure, self._on_trouble)
            try:
                await self._resume()
                return
            except UnreachableError as error:
                failure = error
            except ConnectionClosed as again:
                failure = closed_error(again)

    async def _resume(self) -> None:
        """Back into our stream; where the daemon no longer has it, its last words and then a new one."""
        before = self._hello
        assert before is not None, "open() comes first"
        try:
            address = self._request.address(stream=self.stream, resume=before.resume, since=self._told)
            socket, hello = await self._connect(address)
        except RefusedError as error:
            if error.code != "resume_unknown":
                raise
            await self._hear_last_words(before)
            if self._finished:
                return
            socket, hello = await self._connect(self._request.address(stream=self.stream))
        await self._go_on(socket, hello, before)

    async def _hear_last_words(self, before: Hello) -> None:
        """What the daemon told of our stream after we were cut off, if it is still the same daemon."""
        address = self._request.listening_address(self.stream, before, self._told)
        socket, hello = await self._connect(address)
        try:
            async with asyncio.timeout(LAST_WORDS_S):
                while hello.epoch == before.epoch and not hello.gap:
                    message = await socket.recv()
                    event = parse(message if isinstance(message, str) else "")
                    await self._take(event)
                    if isinstance(event, StreamClosed):
                        self._finished = self._ended
                        return
        except TimeoutError:
            return  # it was never opened under this name again, or does not end: the audio is sent anew
        finally:
            await socket.close()

    async def _go_on(self, socket: ClientConnection, hello: Hello, before: Hello) -> None:
        async with self._writing:
            self._socket, self._hello = socket, hello
            self._under_way.begin()
            if hello.epoch != before.epoch:
                self._told = 0
            if hello.heard_until_ms is not None:
                heard = self._outbox.position(hello.heard_until_ms)
                if heard < self._outbox.start:
                    await self._inbox.put(self._outbox.missing(hello.heard_until_ms, self.stream))
            else:  # a new stream: what has had no final yet is its first audio
                self._outbox.start_over()
                heard = self._outbox.start
            await self._inbox.put(hello)
            for message in self._outbox.replay(heard):
                await socket.send(message)
        self._up.set()
