"""PortAudio, of which a process has one: looking for devices, opening them, closing them.

Takes: which device is wanted. Gives: a running ``Capture``, or a CaptureError. Every call into PortAudio is
made in one thread, in which it may hang, as it does when a sound server does; nobody waits for it for long,
neither a task nor the end of the process. Knows no stream and no timeline.
"""

from __future__ import annotations

import asyncio
import atexit
import importlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from captiond.capture.capture import Capture
from captiond.capture.inputs import (
    CaptureError,
    InputDevice,
    PortAudioMissingError,
    channels_to_open,
    choose,
    choose_rate,
    list_inputs,
    rates_of,
    reason_of,
)
from captiond.capture.worker import Worker

T = TypeVar("T")

OPEN_S = 10.0  # for an answer of the sound system
CLOSE_S = 2.0
LATENCY_S = 0.2  # of sound that the system keeps for us: so long may the interpreter be busy elsewhere


def sound_cards() -> bytes:
    """The sound cards as Linux tells them: other bytes when one has come or gone; none elsewhere."""
    try:
        return Path("/proc/asound/cards").read_bytes()
    except OSError:
        return b""


class _Opened(NamedTuple):
    stream: Any
    capture: Capture


class PortAudio:
    """``load`` gives the module ``sounddevice``, or raises ImportError or OSError."""

    def __init__(
        self,
        load: Callable[[], Any] = lambda: importlib.import_module("sounddevice"),
        *,
        cards: Callable[[], bytes] = sound_cards,
        open_s: float = OPEN_S,
        close_s: float = CLOSE_S,
    ) -> None:
        self._load = load
        self._cards = cards
        self._known_cards = b""  # when PortAudio looked for devices last
        self._open_s = open_s
        self._close_s = close_s
        self._library: Any = None
        self._streams: list[Any] = []  # that are open; the worker's alone
        self._worker = Worker("portaudio")
        self._captures: set[Capture] = set()
        self._all_closed = asyncio.Event()
        self._opening = asyncio.Lock()
        self._unanswered: asyncio.Future[Any] | None = None

    @asynccontextmanager
    async def capture(self, wanted: str | int, channel: int = 0) -> AsyncIterator[Capture]:
        """The device that is ``wanted``, running until the block is left. Raises CaptureError, ConfigError.

        ``channel``: 1 for the first, 0 for the mean of all. PortAudio looks for devices only while none is
        open: where a sound card has come or gone since, and this one cannot be opened, the others are
        interrupted for it.
        """
        loop = asyncio.get_running_loop()
        async with self._opening:
            try:
                opened = await self._ask(lambda: self._open(loop, wanted, channel), discard=self._close)
            except CaptureError:
                if not self._captures or self._cards() == self._known_cards:
                    raise
                await self._interrupt()
                opened = await self._ask(lambda: self._open(loop, wanted, channel), discard=self._close)
            self._captures.add(opened.capture)
        try:
            yield opened.capture
        finally:
            opened.capture.finish()
            closing = loop.run_in_executor(self._worker, self._close, opened)
            try:  # no longer than this: it is closed when the sound system answers again
                await asyncio.wait([closing], timeout=self._close_s)
            except asyncio.CancelledError:  # the daemon stops, and its devices are closed first
                await asyncio.wait([closing], timeout=self._close_s)
                raise
            finally:
                self._captures.discard(opened.capture)
                self._all_closed.set()

    async def _interrupt(self) -> None:
        """Have every open device closed. They are opened again after whoever holds ``_opening``."""
        self._known_cards = self._cards()  # once for each change, whether or not it helps
        for capture in self._captures:
            capture.interrupt()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._close_s):
                while self._captures:
                    self._all_closed.clear()
                    await self._all_closed.wait()

    async def inputs(self, rates_hz: Sequence[int] = ()) -> list[tuple[InputDevice, tuple[int, ...]]]:
        """Every input device, and which of ``rates_hz`` it takes. Raises CaptureError, ConfigError."""

        def look() -> list[tuple[InputDevice, tuple[int, ...]]]:
            library = self._scanned()
            with objections(library, "Input devices cannot be listed"):
                return [(device, rates_of(library, device, rates_hz)) for device in list_inputs(library)]

        return await self._ask(look)

    async def _ask(self, work: Callable[[], T], discard: Callable[[T], object] = lambda answer: None) -> T:
        """``work()`` in the worker. An answer that comes when nobody waits any more goes to ``discard``."""
        if self._unanswered is not None and not self._unanswered.done():
            raise CaptureError("The sound system does not answer.")

        def give_up(done: asyncio.Future[T]) -> None:
            if not done.cancelled() and done.exception() is None:
                self._worker.submit(discard, done.result())

        asked = asyncio.get_running_loop().run_in_executor(self._worker, work)
        try:
            async with asyncio.timeout(self._open_s):
                return await asyncio.shield(asked)
        except TimeoutError:
            self._unanswered = asked
            asked.add_done_callback(give_up)
            raise CaptureError(f"The sound system has not answered for {self._open_s:g} s.") from None
        except asyncio.CancelledError:
            asked.add_done_callback(give_up)
            raise

    # --- in the worker ------------------------------------------------------------------------------

    def _scanned(self) -> Any:
        """The module. Where no device is open PortAudio starts anew, as only then it looks for devices."""
        if self._library is None:
            self._library = self._loaded()
        if not self._streams:
            self._known_cards = self._cards()
            with suppress(self._library.PortAudioError):
                self._library._terminate()
            with objections(self._library, "The sound system does not start"):
                self._library._initialize()
        return self._library

    def _loaded(self) -> Any:
        try:
            library = self._load()
        except (ImportError, OSError) as error:
            raise PortAudioMissingError(
                f"Microphones cannot be used here: {str(error).strip().rstrip('.')}.",
                advice="PortAudio is in Debian's package libportaudio2 (apt install libportaudio2).",
            ) from None
        # At the end of the process it would close what is open, and wait for a sound server that hangs.
        atexit.unregister(getattr(library, "_exit_handler", print))
        return library

    def _open(self, loop: asyncio.AbstractEventLoop, wanted: str | int, channel: int) -> _Opened:
        library = self._scanned()
        with objections(library, "Input devices cannot be listed"):
            device = choose(list_inputs(library), wanted)
        channels = channels_to_open(device, channel)
        with objections(library, f"{device.full_name} cannot be opened"):
            capture = Capture(loop, device, choose_rate(library, device, channels), channel)
            stream = library.InputStream(
                device=device.index,
                channels=channels,
                samplerate=capture.rate_hz,
                blocksize=capture.block_frames,
                dtype="float32",
                latency=LATENCY_S,
                callback=capture.hear,
                finished_callback=capture.finish,
            )
            opened = _Opened(stream, capture)
            self._streams.append(stream)
            try:
                stream.start()
            except library.PortAudioError:
                self._close(opened)
                raise
        return opened

    def _close(self, opened: _Opened) -> None:
        opened.stream.abort()
        opened.stream.close()
        self._streams.remove(opened.stream)


@contextmanager
def objections(library: Any, what: str) -> Iterator[None]:
    """What PortAudio objects to is a CaptureError that begins with ``what``."""
    try:
        yield
    except (library.PortAudioError, ValueError) as error:
        raise CaptureError(f"{what} ({reason_of(error)}).") from None


@lru_cache(maxsize=1)
def the_portaudio() -> PortAudio:
    """This process's."""
    return PortAudio()
