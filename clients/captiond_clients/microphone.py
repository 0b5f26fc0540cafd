"""A microphone of this machine as audio for a speaker.

Takes: which device is meant. Gives: its sound as 16 bit mono at a rate that it takes (the daemon resamples),
from when it is opened until it is stopped or gone. What nobody takes in time is bounded: the oldest gives way
to silence, so that time goes on, and that is told. Knows no socket.
"""

from __future__ import annotations

import asyncio
import atexit
import signal
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from captiond_clients.audio_outbox import AudioShape
from captiond_clients.errors import EXIT_UNREACHABLE, AudioError
from captiond_clients.printable import printable

BLOCK_MS = 50
MOST_WAITING_MS = 30_000
STALL_S = 3.0  # without sound, and the device counts as gone, whatever it says of itself
CLOSE_S = 2.0
OTHER_RATES_HZ = (48_000, 44_100, 32_000, 96_000)  # after 16 kHz and the device's own
EXIT_CONFIG = 78


class MicrophoneError(AudioError):
    """No such device, or it is busy or gone."""

    exit_code = EXIT_UNREACHABLE

    def __init__(self, message: str, *, advice: str = "", exit_code: int = EXIT_UNREACHABLE) -> None:
        super().__init__(message, advice=advice)
        self.code = "microphone_failed"
        self.exit_code = exit_code


class Microphone:
    """``hear`` and ``finish`` are PortAudio's to call, in its thread; ``pieces`` is one task's.

    ``on_lost`` is told how many milliseconds gave way. Made by ``open_microphone``.
    """

    def __init__(self, name: str, rate_hz: int, on_lost: Callable[[int], None]) -> None:
        self.name = name
        self.shape = AudioShape("pcm_s16le", rate_hz, 1)
        self.block_frames = rate_hz * BLOCK_MS // 1000
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._told = False
        self._blocks: deque[tuple[int, bytes]] = deque(maxlen=MOST_WAITING_MS // BLOCK_MS)
        self._heard = 0
        self._gone = False
        self._stopped = False

    def hear(self, data: Any, frames: int, time: Any, status: Any) -> None:
        """PortAudio's callback: a buffer of 16 bit samples."""
        self._blocks.append((self._heard, bytes(data)))
        self._heard += 1
        self._wake()

    def finish(self) -> None:
        """PortAudio gives no more."""
        self._gone = True
        self._wake()

    def stop(self) -> None:
        """Enough was heard: ``pieces`` ends with what has been said so far. From the loop's thread."""
        self._stopped = True
        self._news.set()

    async def pieces(self) -> AsyncIterator[bytes]:
        """The sound in pieces of BLOCK_MS. Raises MicrophoneError when the device is gone."""
        taken = 0
        while True:
            self._told = False
            self._news.clear()
            over = self._stopped or self._gone  # before the blocks, so that the last ones are not missed
            while self._blocks:
                number, piece = self._blocks.popleft()
                if number > taken:
                    self._on_lost((number - taken) * BLOCK_MS)
                    yield bytes((number - taken) * len(piece))
                taken = number + 1
                yield piece
            if over and not self._stopped:
                raise MicrophoneError(f"The microphone {self.name} is gone.")
            if over:
                return
            try:
                async with asyncio.timeout(STALL_S):
                    await self._news.wait()
            except TimeoutError:
                if not self._told:
                    raise MicrophoneError(
                        f"The microphone {self.name} has given no sound for {STALL_S:g} s."
                    ) from None

    def _wake(self) -> None:
        if not self._told:
            self._told = True
            with suppress(RuntimeError):  # the loop is closed: nobody hears any more
                self._loop.call_soon_threadsafe(self._news.set)


@contextmanager
def open_microphone(device: str, on_lost: Callable[[int], None]) -> Iterator[Microphone]:
    """The device whose number is ``device``, or whose name holds it ("": the default), running.

    SIGINT stops it, so that the last words are still captioned; a second one has its usual meaning. Raises
    MicrophoneError.
    """
    library = _library()
    try:
        found = _find(library, device)
        name = printable(str(found["name"]))
        microphone = Microphone(name, _choose_rate(library, found), on_lost)
        stream = library.RawInputStream(
            device=found["index"],
            channels=1,
            dtype="int16",
            samplerate=microphone.shape.rate,
            blocksize=microphone.block_frames,
            latency=0.2,  # seconds that the system keeps for us
            callback=microphone.hear,
            finished_callback=microphone.finish,
        )
    except (library.PortAudioError, ValueError) as error:
        raise MicrophoneError(
            f"No microphone can be opened: {_first_line(error)}.", advice=_all(library)
        ) from None
    loop = asyncio.get_running_loop()

    def stop() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        microphone.stop()

    with suppress(NotImplementedError, ValueError, RuntimeError):  # no signals here
        loop.add_signal_handler(signal.SIGINT, stop)
    try:
        stream.start()
        yield microphone
    except library.PortAudioError as error:
        raise MicrophoneError(f"The microphone {name} cannot be heard: {_first_line(error)}.") from None
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        closing = threading.Thread(target=stream.close, name="closing the microphone", daemon=True)
        closing.start()
        closing.join(CLOSE_S)  # a sound server that hangs holds nobody


def _library() -> Any:
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        raise MicrophoneError(
            f"Microphones cannot be used here: {_first_line(error)}.",
            advice="PortAudio is in Debian's package libportaudio2 (apt install libportaudio2).",
            exit_code=EXIT_CONFIG,
        ) from None
    # At the end of the process it would close what is open, and wait for a sound server that hangs.
    atexit.unregister(getattr(sounddevice, "_exit_handler", print))
    return sounddevice


def _find(library: Any, device: str) -> Any:
    wanted: int | str | None = int(device) if device.isdecimal() else device or None
    return library.query_devices(wanted, "input")


def _choose_rate(library: Any, found: Any) -> int:
    rates = dict.fromkeys((16_000, int(found["default_samplerate"]), *OTHER_RATES_HZ))
    for rate_hz in rates:
        with suppress(library.PortAudioError):
            library.check_input_settings(device=found["index"], channels=1, dtype="int16", samplerate=rate_hz)
            return rate_hz
    raise ValueError(f"{found['name']} is busy, or takes none of {', '.join(map(str, rates))} Hz")


def _first_line(error: Exception) -> str:
    return printable(str(error).partition(":\n")[0].partition(" [PaErrorCode")[0]).rstrip(".")


def _all(library: Any) -> str:
    """Every input device, in a sentence."""
    inputs = [
        f'{number} "{printable(str(found["name"]))}"'
        for number, found in enumerate(library.query_devices())
        if found["max_input_channels"] > 0
    ]
    return f"There is {', '.join(inputs)}." if inputs else "There is no input device."
