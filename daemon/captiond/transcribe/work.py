"""Recordings one after another with one model: each is opened, transcribed, written and shown.

Takes: paths. Gives: their text to an output, how far it is to a display, and whether all could be read.
"""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from captiond_clients.terminal import ticking
from captiond_engine.engine import Engine
from captiond_engine.errors import AudioError, DeviceError

from captiond import wire
from captiond.audio import AudioFile
from captiond.config import Config
from captiond.transcribe.display import Display
from captiond.transcribe.outputs import Output
from captiond.transcribe.run import Position, transcribe
from captiond.transcribe.source import STANDARD_INPUT, open_source

NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")


class Work:
    """``name`` and ``told_ms``: which recording is being transcribed, and how far."""

    def __init__(self, config: Config, engine: Engine, hints: str, output: Output, display: Display) -> None:
        self.engine = engine
        self.display = display
        self.name = ""
        self.told_ms = self._heard_ms = 0
        self._config = config
        self._hints = hints
        self._output = output
        self._lost: list[str] = []

    async def all(self, files: Sequence[Path]) -> bool:
        """Whether all could be read to their end. Raises DeviceError, OutputError.

        Being told to stop (SIGTERM) cancels, as Ctrl-C does.
        """
        task = asyncio.current_task()
        assert task is not None
        with suppress(NotImplementedError, ValueError, RuntimeError):  # no signals in this thread
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        read = [await self._one(path, number, len(files)) for number, path in enumerate(files, start=1)]
        return all(read)

    async def _one(self, path: Path, number: int, count: int) -> bool:
        self.name = "standard input" if path == STANDARD_INPUT else path.name
        self.told_ms = self._heard_ms = 0
        self._lost = []
        try:
            async with open_source(path) as audio:
                await self._written(path, audio, f"{number}/{count} {self.name}" if count > 1 else self.name)
        except AudioError as error:
            self.display.erase()
            self.display.note(f"captiond: {error}")
            return False
        if self._lost:
            raise DeviceError(f"{path}: not all of it could be turned into text: {' '.join(self._lost)}")
        return True

    async def _written(self, path: Path, audio: AudioFile, title: str) -> None:
        """Raises AudioError when what could be read is written."""
        stream = NOT_IN_A_NAME.sub("-", "stdin" if path == STANDARD_INPUT else path.name)[:64]
        self._output.begin(path)
        self.display.begin(title, audio.length_ms)
        try:
            with ticking(self.display.refresh):
                await transcribe(
                    stream,
                    audio.blocks,
                    self._config,
                    self.engine,
                    self._tell,
                    hints=self._hints,
                    on_position=self._move,
                )
        finally:
            written = self._output.end(self._heard_ms)
        self.display.end(self._heard_ms, written)

    def _tell(self, event: wire.Event) -> None:
        self._output.put(event)
        if isinstance(event, wire.AudioLost):
            span = f"{event.start_ms / 1000:.1f} to {event.end_ms / 1000:.1f} s"
            self._lost.append(f"{span} ({event.reason}).")
        elif isinstance(event, wire.StreamClosed) and event.error:
            self._lost.append(f"The rest ({event.error}).")

    def _move(self, position: Position) -> None:
        self.told_ms, self._heard_ms = position.told_ms, position.heard_ms
        self.display.move(position.told_ms)
