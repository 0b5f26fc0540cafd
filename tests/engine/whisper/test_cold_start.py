"""The first start, when no graph is stored: the daemon compiles in a thread that MAX was not imported in."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from captiond_engine.progress import ProgressEvent
from captiond_engine.whisper.graphs import GraphStore
from captiond_engine.whisper.loading import load_model
from captiond_engine.whisper.model import WhisperModel
from max.driver import CPU

from tests.parity import models


@pytest.mark.slow
def test_a_model_is_compiled_in_another_thread_and_stored(tmp_path: Path) -> None:
    store, told, made = GraphStore(tmp_path), list[ProgressEvent](), list[WhisperModel]()

    def load() -> None:
        made.append(load_model(models.bundled_checkpoint(), CPU(), store=store, progress=told.append))

    for _ in range(2):  # cold, then from the store
        thread = threading.Thread(target=load)
        thread.start()
        thread.join()
    assert len(made) == 2
    compiling = [event for event in told if event.stage == "compile"]
    assert [event.done for event in compiling if event.done in (0.0, 1.0)] == [0.0, 1.0, 0.0, 1.0]
    assert all(event.estimate_s for event in compiling)
    assert len(list(tmp_path.glob("*.mef"))) == 2
