"""A world of sound devices behind the face of the module ``sounddevice``.

Takes: devices, and what tests do to them. Gives: what PortAudio would: a list that is only as new as its last
start, streams that call back, refusals. Holds its callers to PortAudio's rules: one call at a time, and no
end while a stream is open.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import soxr
from captiond_engine.types import SAMPLE_RATE_HZ, Float32Array

UNAVAILABLE, INVALID_RATE = -9985, -9997


class FakePortAudioError(Exception):
    """As sounddevice's: text and number."""


@dataclass(eq=False)
class FakeDevice:
    """``rates_hz``: those it takes; empty: any. ``refuses``: why it cannot be opened. ``hold``: it hangs."""

    name: str = "USB Mic: Audio (hw:1,0)"
    channels: int = 1
    rates_hz: tuple[int, ...] = ()
    own_rate_hz: int = 44_100
    host_api: int = 0
    refuses: str = ""
    fails_to_start: bool = False
    hold: threading.Event | None = None
    tries: int = 0
    stream: FakeStream | None = None  # that is open now

    async def running(self) -> FakeStream:
        """The stream, as soon as one runs."""
        while self.stream is None:  # noqa: ASYNC110 (another thread opens it)
            await asyncio.sleep(0.01)
        return self.stream

    def unplug(self) -> None:
        """The stream ends by itself, as when a device is pulled out or its server dies."""
        assert self.stream is not None
        stream, self.stream = self.stream, None
        stream.end()

    async def play(self, pcm: Float32Array, *, piece: int = 1_600) -> None:
        """``pcm`` at 16 kHz as the room's sound, at its pace; heard where a stream runs, in all channels."""
        for start in range(0, len(pcm), piece):
            part = pcm[start : start + piece]
            await asyncio.sleep(len(part) / SAMPLE_RATE_HZ)
            if self.stream is not None:
                self.stream.give(np.repeat(part[:, None], self.stream.channels, axis=1))


class FakeStream:
    def __init__(self, library: FakeSounddevice, device: FakeDevice, **how: Any) -> None:
        self.device = device
        self.rate_hz = int(how["samplerate"])
        self.channels = int(how["channels"])
        self.block_frames = int(how["blocksize"])
        self.running = False
        self.ended = False
        self._library = library
        self._callback: Callable[..., None] = how["callback"]
        self._finished: Callable[[], None] = how["finished_callback"]
        self._resampler = soxr.ResampleStream(SAMPLE_RATE_HZ, self.rate_hz, self.channels, quality="HQ")
        self._held = np.zeros((0, self.channels), np.float32)

    def start(self) -> None:
        with self._library.calling():
            if self.device.fails_to_start:
                raise FakePortAudioError("Error starting stream: Unanticipated host error", -9999)
            self.running = True
            self.device.stream = self

    def abort(self) -> None:
        with self._library.calling():
            self._library.closing += 1
            if self.device.hold is not None:
                self.device.hold.wait()
            self.end()

    def close(self) -> None:
        with self._library.calling():
            self._library.open.remove(self)
            if self.device.stream is self:
                self.device.stream = None

    def end(self) -> None:
        self.running = False
        if not self.ended:
            self.ended = True
            self._finished()

    def give(self, data: Float32Array) -> None:
        """Float32 [samples, channels] at 16 kHz, called back in blocks at this stream's rate."""
        if self.rate_hz != SAMPLE_RATE_HZ:
            data = self._resampler.resample_chunk(data)
        self._held = np.concatenate((self._held, data))
        while len(self._held) >= self.block_frames:
            self.call_back(self._held[: self.block_frames])
            self._held = self._held[self.block_frames :]

    def call_back(self, data: Float32Array, *, overflow: bool = False) -> None:
        """One block, float32 [frames, channels] at this stream's rate, as PortAudio's thread would."""
        if self.running:
            self._callback(data, len(data), None, SimpleNamespace(input_overflow=overflow))


class FakeSounddevice:
    """``plugged`` is the world; ``query_devices`` shows it as it was when PortAudio was started last."""

    PortAudioError = FakePortAudioError

    def __init__(self, *plugged: FakeDevice, default: int | None = 0) -> None:
        self.plugged = list(plugged)
        self.default = default
        self.scans = 0
        self.on_scan: Callable[[], None] = lambda: None
        self.open: list[FakeStream] = []
        self.closing = 0  # streams whose closing has begun
        self.broken = False
        self._listed = list(plugged)
        self._lock = threading.Lock()

    @contextmanager
    def calling(self) -> Iterator[None]:
        assert self._lock.acquire(blocking=False), "PortAudio was called while a call was running"
        try:
            yield
        finally:
            self._lock.release()

    def query_hostapis(self) -> tuple[dict[str, str], ...]:
        return ({"name": "ALSA"}, {"name": "OSS"})

    def query_devices(self, device: int | str | None = None, kind: str | None = None) -> Any:
        with self.calling():
            if self.broken:
                raise FakePortAudioError("Error querying host API: PortAudio not initialized", -10000)
            rows = [
                {
                    "name": device.name,
                    "index": index,
                    "hostapi": device.host_api,
                    "max_input_channels": device.channels,
                    "default_samplerate": float(device.own_rate_hz),
                }
                for index, device in enumerate(self._listed)
            ]
            if kind is None:
                return rows
            if device is not None:
                matching = [r for r in rows if device in (r["index"], r["name"])]
                if not matching:
                    raise ValueError(f"No input device matching {device!r}")
                return matching[0]
            if self.default is None or self.default >= len(rows):
                raise FakePortAudioError("Error querying device -1")
            return rows[self.default]

    def check_input_settings(self, *, device: int, channels: int, dtype: str, samplerate: int) -> None:
        with self.calling():
            found = self._listed[device]
            assert dtype in ("float32", "int16")
            assert 1 <= channels <= found.channels
            self._refuse(found)
            if found.rates_hz and samplerate not in found.rates_hz:
                raise FakePortAudioError("Invalid sample rate", INVALID_RATE)

    def InputStream(self, *, device: int, **how: Any) -> FakeStream:  # noqa: N802 (sounddevice's name)
        with self.calling():
            found = self._listed[device]
            found.tries += 1
            if found.hold is not None:
                found.hold.wait()
            self._refuse(found)
            stream = FakeStream(self, found, **how)
            self.open.append(stream)
            return stream

    def RawInputStream(self, **how: Any) -> FakeStream:  # noqa: N802 (sounddevice's name)
        """As the other, with 16 bit samples in bytes."""
        assert how["dtype"] == "int16"
        callback = how["callback"]

        def call_back(data: Float32Array, frames: int, time: Any, status: Any) -> None:
            callback(np.round(data * 32_767).astype("<i2").tobytes(), frames, time, status)

        return self.InputStream(**how | {"callback": call_back})

    def _refuse(self, device: FakeDevice) -> None:
        if device not in self.plugged:
            raise FakePortAudioError("Error opening InputStream: Device unavailable", UNAVAILABLE)
        if device.refuses:
            raise FakePortAudioError(f"Error opening InputStream: {device.refuses}", UNAVAILABLE)

    def _terminate(self) -> None:
        with self.calling():
            assert not self.open, "PortAudio was ended under an open stream"
            if self.broken:
                raise FakePortAudioError("PortAudio not initialized", -10000)

    def _initialize(self) -> None:
        with self.calling():
            self.scans += 1
            self.on_scan()
            self._listed = list(self.plugged)
