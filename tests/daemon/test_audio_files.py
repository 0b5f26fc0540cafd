"""Audio files that are read in a thread: what happens when nobody waits for them any more."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from captiond.audio import open_audio


async def test_a_file_is_not_closed_under_a_read_whose_reader_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "talk.wav"
    soundfile.write(path, np.zeros(48_000, np.float32), 16_000)
    reads, goes_on = threading.Event(), threading.Event()
    read, close = soundfile.SoundFile.read, soundfile.SoundFile.close
    order: list[str] = []

    def slow_read(file: soundfile.SoundFile, *arguments: Any, **options: Any) -> Any:
        reads.set()
        goes_on.wait(60)
        order.append("read")
        return read(file, *arguments, **options)

    def noted_close(file: soundfile.SoundFile) -> None:
        order.append("close")
        close(file)

    monkeypatch.setattr(soundfile.SoundFile, "read", slow_read)
    monkeypatch.setattr(soundfile.SoundFile, "close", noted_close)

    async def hear() -> None:
        async with open_audio(path) as audio:
            async for _ in audio.blocks:
                pass

    async with asyncio.TaskGroup() as tasks:
        hearing = tasks.create_task(hear(), name="hearing")
        await asyncio.to_thread(reads.wait, 60)
        hearing.cancel()
        threading.Timer(0.2, goes_on.set).start()  # long after a close that did not wait
    assert order[:2] == ["read", "close"]
