"""One recording to the events of one stream, as fast as the device goes.

Takes: blocks of audio, and an engine. Gives: the protocol's events in order, as they come, and how far it is.
While the device works on one batch of windows the next is read and cut; no more is read ahead. Knows no
output format and no file.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from captiond_engine.engine import Engine
from captiond_engine.errors import AudioError, DeviceError
from captiond_engine.recording import Recording
from captiond_engine.speech_model import Device
from captiond_engine.types import Decoding, Float32Array, Job, ms_from_samples
from captiond_engine.vad.detector import open_detector
from msgspec.structs import replace

from captiond import __version__, wire
from captiond.config import Config
from captiond.segments import recording_settings

FIRST_PAUSE_S = 0.25  # after a failure of the device; each one in a row waits twice as long
MOST_FAILURES = 6  # in a row; then the device is given up, and with it the rest of the recording

Tell = Callable[[wire.Event], None]


@dataclass(frozen=True, slots=True)
class Position:
    """How far a recording is: everything before ``told_ms`` was told or is silent."""

    told_ms: int
    heard_ms: int


def recording_for(config: Config, engine: Engine, hints: str = "") -> Recording:
    """A recording cut and asked for as the configuration and the model's card say together."""
    settings = recording_settings(config, engine.traits, config.model.language or None, hints)
    wish = config.transcribe.pack
    packed = engine.traits.pack if wish == "auto" else wish == "on"
    return Recording(
        traits=engine.traits,
        tokenizer=engine.tokenizer,
        detector=open_detector(settings.vad, settings.vad_aggressiveness),
        settings=settings,
        pack=engine.traits.max_window if packed else 0,
        look_ahead=config.transcribe.batch,
    )


async def transcribe(
    name: str,
    blocks: AsyncIterator[Float32Array],
    config: Config,
    engine: Engine,
    tell: Tell,
    *,
    hints: str = "",
    on_position: Callable[[Position], None] = lambda position: None,
) -> None:
    """Tell the events of ``blocks``: float32 [samples] at 16 kHz. Their stream is called ``name``.

    Raises AudioError after the last event where the blocks broke off. What the device failed on is told as
    lost; where it failed for good, the stream is closed with its error.
    """
    told = 0

    def number(event: wire.Event) -> None:
        nonlocal told
        tell(replace(event, stream=name, seq=told))
        told += 1

    number(wire.Hello(server=f"captiond/{__version__}", epoch=secrets.token_hex(4), model=engine.traits.name))
    number(wire.StreamOpened(source="file"))
    recording = recording_for(config, engine, hints)
    rounds = _Rounds(recording, blocks, engine.device, config.transcribe.batch, on_position)
    while not recording.done and rounds.given_up is None:
        await rounds.next()
        for event in recording.take_events():
            number(wire.from_engine(event, suppressed_text=config.privacy.suppressed_text))
    if rounds.given_up is None:
        number(wire.StreamClosed(reason="end"))
    else:
        at = rounds.position
        number(wire.AudioLost(start_ms=at.told_ms, end_ms=at.heard_ms, reason="device"))
        number(wire.StreamClosed(reason="error", error=rounds.given_up.code))
    if rounds.fault is not None:
        raise rounds.fault


class _Rounds:
    """Each round: the device has one batch, if any is due, and meanwhile the next is read.

    ``fault``: why the blocks ended before their end. ``given_up``: why the device is asked no more.
    """

    def __init__(
        self,
        recording: Recording,
        blocks: AsyncIterator[Float32Array],
        device: Device,
        batch: int,
        on_position: Callable[[Position], None],
    ) -> None:
        self.fault: AudioError | None = None
        self.given_up: DeviceError | None = None
        self._recording = recording
        self._blocks = blocks
        self._device = device
        self._batch = batch
        self._on_position = on_position
        self._failures = 0
        self._ended = False

    @property
    def position(self) -> Position:
        recording = self._recording
        return Position(ms_from_samples(recording.told_until), ms_from_samples(recording.heard_until))

    async def next(self) -> None:
        jobs = self._recording.next_jobs(self._batch)
        if not jobs:
            await self._read(None)
            return
        async with asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(self._ask(jobs), name="asking the device")
            await self._read(asked)
        decodings = asked.result()
        for at, job in enumerate(jobs):
            if decodings is None:
                self._recording.fail(job)
            else:
                self._recording.complete(job, decodings[at])
        self._on_position(self.position)

    async def _read(self, asked: asyncio.Task[list[Decoding] | None] | None) -> None:
        """Blocks until the device has answered what it was ``asked``, or enough is due for it."""
        recording = self._recording
        while not self._ended and not recording.full:
            try:
                block = await anext(self._blocks, None)
            except AudioError as error:  # what was read before is still told
                self.fault, block = error, None
            if block is None:
                self._ended = True
                recording.close()
            else:
                recording.hear(block)
            self._on_position(self.position)
            if asked is None or asked.done():
                return

    async def _ask(self, jobs: Sequence[Job]) -> list[Decoding] | None:
        """The device's answers; None where it failed, after a pause."""
        try:
            decodings = await self._device.run(jobs)
        except DeviceError as error:
            self._batch = 1  # it may have been too much at once
            self._failures += 1
            if self._failures >= MOST_FAILURES:
                self.given_up = error
            else:
                await asyncio.sleep(FIRST_PAUSE_S * 2 ** (self._failures - 1))
            return None
        self._failures = 0
        return decodings
