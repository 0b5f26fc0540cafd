"""Graphs that come with captiond: they belong to these sources, and compute right on what they are for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from captiond_engine.audio.mel import log_mel
from captiond_engine.models import BUNDLED
from captiond_engine.progress import ProgressEvent
from captiond_engine.whisper import cpu, graphs
from captiond_engine.whisper.graph_store import GraphStore, read_shipped
from captiond_engine.whisper.graphs import facts_of, origin_of, shipped_path, sketch
from captiond_engine.whisper.loading import SHIPPED, kinds_of, load_model
from captiond_engine.whisper.model import Prompt
from max.driver import CPU

from tests.parity import clips, models

MODEL, AGAIN = BUNDLED / "demo-en", "not of these sources or this MAX: run 'python -m engine.bundle_graphs'"
KINDS = kinds_of(CPU(), "float32")
MOST_BYTES = 8_000_000


@pytest.mark.parametrize("target", cpu.TARGETS, ids=lambda target: target.name)
@pytest.mark.parametrize("kind", KINDS)
def test_they_are_of_these_sources(kind: str, target: cpu.Target) -> None:
    checkpoint = models.bundled_checkpoint()
    text, _ = sketch(kind, checkpoint.config, checkpoint.tensors, CPU())
    facts = facts_of(kind, checkpoint.config, text, target.description)
    assert read_shipped(shipped_path(MODEL, target, kind), facts.key) is not None, f"{kind} is {AGAIN}"


def test_they_are_small_and_nothing_is_left_over() -> None:
    here = [path for path in (MODEL / "graphs").rglob("*") if path.is_file()]
    wanted = {shipped_path(MODEL, target, kind) for target in cpu.TARGETS for kind in KINDS}
    assert set(here) == wanted
    assert sum(path.stat().st_size for path in here) < MOST_BYTES


@pytest.mark.parametrize("target", cpu.TARGETS, ids=lambda target: target.name)
def test_they_compute_right(target: cpu.Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the processor that compiled them was; loading them proves them against the NumPy twin."""
    if not target.has(cpu.this_processor()):
        pytest.skip(f"this processor is no {target.name}")
    monkeypatch.setattr(cpu, "TARGETS", (target,))
    told: list[ProgressEvent] = []
    checkpoint = models.bundled_checkpoint()
    assert origin_of(KINDS[0], checkpoint.config, CPU(), GraphStore(tmp_path)) == "shipped"
    model = load_model(checkpoint, CPU(), store=GraphStore(tmp_path), progress=told.append)
    assert {event.stage for event in told} == {"check"}
    assert told[-1].message == SHIPPED
    prompt = Prompt((50_257, 50_362))
    for clip in clips.bundled()[:3]:
        mel = log_mel(clip.pcm[:160_000], 80, 1_000)
        own = models.bundled_model()
        said, wanted = (each.greedy(each.encode(mel[None]), [prompt]) for each in (model, own))
        assert said.tokens == wanted.tokens


def test_a_first_start_compiles_nothing(tmp_path: Path) -> None:
    """In a fresh home, with no compiler to be had."""
    if not cpu.TARGETS[-1].has(cpu.this_processor()):
        pytest.skip("this processor has no graphs that came with captiond")
    script = (
        "from captiond_engine.engine import Engine\n"
        "from captiond_engine.whisper import graphs\n"
        "def refuse(*_, **__): raise SystemExit('something is compiled')\n"
        "graphs.compile_apart = refuse\n"
        "engine = Engine.load('demo-en', device='cpu', progress=lambda event: print(event.stage))\n"
        "engine.close()\n"
    )
    unset = ("CAPTIOND_CACHE_DIR", "XDG_CACHE_HOME", "MODULAR_CACHE_DIR")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {"weights", "check", "warm_up"}
    assert not (tmp_path / ".cache" / "captiond").exists()


def test_a_spoilt_one_is_passed_over(tmp_path: Path) -> None:
    target, kind = cpu.TARGETS[-1], KINDS[1]
    path = shipped_path(tmp_path / "demo", target, kind)
    path.parent.mkdir(parents=True)
    checkpoint = models.bundled_checkpoint()
    text, _ = sketch(kind, checkpoint.config, checkpoint.tensors, CPU())
    facts = facts_of(kind, checkpoint.config, text, target.description)
    whole = shipped_path(MODEL, target, kind).read_bytes()
    for content in (whole, whole[:-1], whole[:100], b""):
        path.write_bytes(content)
        found = read_shipped(path, facts.key)
        assert (found is not None) == (content == whole)
    assert graphs.BUNDLED == BUNDLED
