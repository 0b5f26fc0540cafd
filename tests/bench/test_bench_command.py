"""``captiond bench``: found in a checkout only; what it says of missing parts; one true run of few tokens."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import click
import jsonschema
import pytest
from captiond import bench
from captiond.bench import BENCHES, BenchError
from captiond.cli import main
from captiond_engine.engine import Engine
from captiond_engine.speech_model import ModelTraits
from click.testing import CliRunner

from daemon.bench.clips import SAMPLE_RATE_HZ, read_audio
from engine.bench import compare, linearity, long, loop, whisper_cpp
from engine.bench.apart import Apart, EndedError
from engine.bench.cases import SAMPLE, case_of, weights_of
from engine.bench.contenders import Entry, UnavailableError, entries, open_contender
from engine.bench.publish import counts
from tests.bench import made_up

SPREAD = {
    "type": "object",
    "required": ["min", "median", "max"],
    "additionalProperties": {"type": "number", "exclusiveMinimum": 0},
}
CONTENDER = {
    "type": "object",
    "required": ["same_tokens", "tokens", "same_every_round", "peak_mib", "resident_mib"],
    "properties": {f"{step}_ms": SPREAD for step in ("mel", "encode", "decode", "whole", "cpu")},
}
CASE = {
    "type": "object",
    "required": ["batches", "details", "load_s", "skipped"],
    "properties": {
        "batches": {"additionalProperties": {"additionalProperties": CONTENDER}},
        "skipped": {"additionalProperties": {"type": "string"}},
    },
}
LINE = {
    "type": "object",
    "required": ["bench", "commit", "machine", "versions", "load", "rounds", "new_tokens", "cases"],
    "properties": {
        "bench": {"const": "engine"},
        "load": {"required": ["before", "after"]},
        "machine": {"required": ["cpu", "cores", "memory_gb", "system"]},
        "versions": {"required": ["python", "max", "openai-whisper", "faster-whisper", "transformers"]},
        "cases": {"additionalProperties": CASE},
    },
}


@pytest.mark.parametrize("name", BENCHES)
def test_each_bench_tells_of_itself(name: str) -> None:
    told = CliRunner().invoke(main, ["bench", name, "--help"])
    assert told.exit_code == 0
    assert told.output.startswith(f"Usage: captiond bench {name} ")
    assert isinstance(bench.load(name), click.Command)


def test_the_list_imports_no_bench() -> None:
    script = "import sys, captiond.cli as c; c.main(['bench', '--help'], standalone_mode=False); "
    script += "print([name for name in sys.modules if name.startswith(('engine', 'daemon', 'max'))])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(name in done.stdout for name in BENCHES)


def test_an_installed_package_says_that_it_needs_a_checkout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bench, "CHECKOUT", tmp_path)
    with pytest.raises(BenchError, match=r"need a checkout.*make bench"):
        main(["bench", "engine", "--rounds", "1"], standalone_mode=False)


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BENCHES, "engine", ("engine.bench.nothing", "command", ""))
    with pytest.raises(BenchError, match=r"needs engine\.bench\.nothing.*\[bench\]"):
        bench.load("engine")


def test_contenders_are_chosen_by_part_of_their_names() -> None:
    assert compare.chosen(2, []) == entries(2)
    found = compare.chosen(2, ["captiond", "int8 (2"])
    assert {entry.kind for entry in found} == {"captiond", "faster-whisper", "whisper.cpp"}
    assert len({entry.name for entry in entries(2)}) == len(entries(2))
    assert not any("," in entry.name for entry in entries(2))
    with pytest.raises(click.BadParameter, match=r"nobody is called kaldi.*captiond int8"):
        compare.chosen(2, ["kaldi"])


@pytest.mark.parametrize("text", ["", "0", "1,x", "-2", "1.5"])
def test_numbers_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        counts(text)
    assert counts("8, 1,2") == [1, 2, 8]


def test_who_is_not_there_is_left_out_and_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(whisper_cpp.LIBRARY, str(tmp_path / "libwhisper.so"))
    config, _, tokenizer = weights_of("demo-en")
    case = case_of("demo-en", config, tokenizer, 4)
    with pytest.raises(UnavailableError, match=r"not built: skipped .*libwhisper\.so"):
        open_contender(Entry("whisper.cpp", "float16", 1), case, tmp_path)
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(UnavailableError, match="not installed"):
        open_contender(Entry("faster-whisper", "int8", 1), case, tmp_path)


class Scripted:
    """Stands for a contender's process."""

    def __init__(self, entry: Entry, log: list[str], last: int | None = None) -> None:
        self.entry, self.name, self._log, self._left = entry, entry.name, log, last

    def round(self, rows: int) -> Any:
        self._log.append(self.name)
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise EndedError("its process ended with -6")
        return made_up.made_up(0.1, 0.1, 0.1 * rows)


def test_they_take_turns_and_the_first_round_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "REST_S", 0)
    log: list[str] = []
    three = [Scripted(entry, log) for entry in (made_up.OURS, made_up.OPENAI, made_up.INT8_1)]
    found, ended = compare.measure(cast(Sequence[Apart], three), rows=1, rounds=2)
    a, b, c = (one.name for one in three)
    assert log == [a, b, c, b, c, a, c, a, b]
    assert (ended, [len(rounds) for rounds in found.values()]) == ({}, [2, 2, 2])


def test_one_that_dies_spoils_no_other_ones_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "REST_S", 0)
    log: list[str] = []
    two = [Scripted(made_up.OURS, log), Scripted(made_up.OPENAI, log, last=1)]
    found, ended = compare.measure(cast(Sequence[Apart], two), rows=1, rounds=3)
    assert list(found) == [made_up.OURS]
    assert len(found[made_up.OURS]) == 3
    assert ended == {made_up.OPENAI.name: "failed: its process ended with -6"}
    assert log.count(made_up.OPENAI.name) == 2


def test_a_blocked_loop_is_noticed() -> None:
    """A device that blocks the loop for 50 ms is what the real one must never be."""

    class Blocking:
        async def run(self, jobs: Sequence[Any]) -> None:
            time.sleep(0.05)  # noqa: ASYNC251  # on purpose
            await asyncio.sleep(0.001)

    traits = ModelTraits("m", 80, ("en",))
    blocked = cast(Engine, SimpleNamespace(traits=traits, device=Blocking()))
    late, passes = asyncio.run(loop._ticking(blocked, 0.3, busy=True))
    assert max(late) > 0.03
    assert passes > 1
    idle, none = asyncio.run(loop._ticking(blocked, 0.1, busy=False))
    assert len(idle) > 2
    assert none == 0


@pytest.mark.slow
def test_a_true_run_says_what_openai_whisper_says_and_leaves_its_files(tmp_path: Path) -> None:
    """Two windows at once, in processes of their own; openai-whisper where it is installed."""
    files = {name: tmp_path / f"bench.{name}" for name in ("json", "markdown", "svg")}
    words = ["--cases", "demo-en", "--rounds", "1", "--tokens", "4", "--batch", "2"]
    words += ["--only", "captiond float32,openai-whisper float32 (1", "--json", str(files["json"])]
    words += ["--markdown", str(files["markdown"]), "--plot", str(files["svg"])]
    done = CliRunner().invoke(compare.command, words, catch_exceptions=False)
    assert done.exit_code == 0
    line = json.loads(files["json"].read_text(encoding="utf-8"))
    jsonschema.validate(line, LINE)
    case = line["cases"]["demo-en"]
    ours = case["batches"]["2"]["captiond float32"]
    assert (ours["same_tokens"], ours["tokens"], ours["same_every_round"]) == (8, 8, True)
    assert ours["peak_mib"] >= ours["resident_mib"] > 100
    told = {*case["batches"]["2"], *case["skipped"]}
    assert told == {"captiond float32", "openai-whisper float32 (1 thread)"}
    assert "captiond float32" in files["markdown"].read_text(encoding="utf-8")
    assert files["svg"].read_text(encoding="utf-8").startswith("<svg ")


@pytest.mark.slow
def test_a_cached_token_is_the_token_of_a_text_decoded_anew(tmp_path: Path) -> None:
    file = tmp_path / "kv.json"
    words = ["--cases", "demo-en", "--rounds", "1", "--lengths", "3,9", "--json", str(file)]
    done = CliRunner().invoke(linearity.command, words, catch_exceptions=False)
    assert done.exit_code == 0
    found = json.loads(file.read_text(encoding="utf-8"))["cases"]["demo-en"]
    assert found["lengths"] == [3, 9]
    assert found["same"] == found["compared"] == 5


@pytest.mark.slow
def test_both_hear_the_same_where_the_cut_is_the_same(tmp_path: Path) -> None:
    """Two sentences of the sample, in captiond's segments and in one window of 30 s."""
    pytest.importorskip("whisper")
    said = "The password is two two three one, five. What happened on Friday, July twenty seventh?"
    recording = long.Recording("two sentences", read_audio(SAMPLE)[: 7 * SAMPLE_RATE_HZ], said)
    sides = long.figures_of(recording, long.hear("demo-en", recording, tmp_path))["sides"]
    ours, theirs = sides["captiond, as transcribe"], sides["openai-whisper, captiond's segments"]
    assert ours["text"] == theirs["text"] == said
    assert (ours["wer"], ours["characters_to_reference"]) == (0.0, 1.0)
    windows = [sides[f"{who}, 30 s windows"]["text"] for who in ("captiond", "openai-whisper")]
    assert windows[0] == windows[1] != ""
