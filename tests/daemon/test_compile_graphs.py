"""``captiond models compile``: what is asked of the engine, what is printed, and with which code it ends."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from captiond import __main__, cli, compile_graphs
from captiond_engine.errors import DeviceError
from captiond_engine.models import BUNDLED
from captiond_engine.whisper.graph_store import Facts, GraphStore
from captiond_engine.whisper.loading import OwnGraph
from captiond_engine.whisper.weights import Checkpoint
from click.testing import CliRunner, Result


def facts_of(kind: str) -> Facts:
    return Facts("0" * 32, kind, {}, "x86_64", "26.7.0", "s", size_bytes=5_300_000, took_s=74.4)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[Path, str, bool]]:
    """Model's path, precision, and whether for the processor; the decoder is compiled, the encoder there."""
    found: list[tuple[Path, str, bool]] = []

    def own_graphs(checkpoint: Checkpoint, device: Any, *, precision: str, **_: Any) -> list[OwnGraph]:
        found.append((checkpoint.path, precision, device.is_host))
        decoder = f"decode_{precision}"
        return [
            OwnGraph("encode", "stored", facts_of("encode")),
            OwnGraph(decoder, "compiled", facts_of(decoder)),
        ]

    monkeypatch.setattr(compile_graphs, "own_graphs", own_graphs)
    monkeypatch.setenv("CAPTIOND_CACHE_DIR", str(tmp_path))
    return found


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, ["models", "compile", *arguments])


def test_each_graph_is_a_line_that_says_where_it_lies(asked: list[Any], tmp_path: Path) -> None:
    done = run("demo-en")
    assert done.exit_code == 0, done.output
    assert asked == [(BUNDLED / "demo-en", "float32", True)]
    encoder, decoder = done.stdout.splitlines()
    assert encoder.split()[:3] == ["encode", "was", "there"]
    assert decoder.split()[:5] == ["decode_float32", "compiled", "in", "74", "s"]
    for line in (encoder, decoder):
        assert "5.3 MB" in line
        assert line.endswith(str(GraphStore().path("0" * 32)))
        assert str(tmp_path) in line


def test_precisions_are_compiled_one_after_the_other(asked: list[Any]) -> None:
    assert run("demo-en", "--precision", "int8", "--precision", "float32", "--device", "cpu").exit_code == 0
    assert [precision for _, precision, _ in asked] == ["int8", "float32"]


def test_without_a_name_the_configuration_says_what(asked: list[Any], tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[model]\nname = "demo-en"\nprecision = "bfloat16"\n')
    assert run("--config", str(tmp_path / "c.toml")).exit_code == 0
    assert asked == [(BUNDLED / "demo-en", "bfloat16", True)]


@pytest.mark.parametrize(
    ("arguments", "code"), [(["base.enn"], 78), (["demo-en", "--precision", "int4"], 2), (["--devise"], 2)]
)
def test_what_cannot_be_done_ends_with_a_code_and_a_line(
    asked: list[Any],
    arguments: list[str],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert _end_of("captiond", "models", "compile", *arguments, patch=monkeypatch) == code
    printed = capfd.readouterr()
    assert printed.out == ""
    assert arguments[-1] in printed.err
    assert asked == []


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("trouble", ["cannot be kept", "cannot be compiled"])
def test_graphs_that_are_not_there_in_the_end_are_no_success(
    trouble: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def own_graphs(*_: Any, **__: Any) -> list[OwnGraph]:
        if trouble == "cannot be kept":
            return [OwnGraph("encode", "compiled", None)]
        raise DeviceError("It is too old.", code="compile_failed")

    monkeypatch.setattr(compile_graphs, "own_graphs", own_graphs)
    assert _end_of("captiond", "models", "compile", "demo-en", patch=monkeypatch) == 78
    printed = capfd.readouterr()
    assert printed.out == ""
    assert ("could not be kept" if trouble == "cannot be kept" else "too old") in printed.err


def test_help_names_it_beside_the_other_commands() -> None:
    done = CliRunner().invoke(cli.main, ["models", "--help"])
    assert {"list", "pull", "path", "compile"} <= {
        line.split()[0] for line in done.output.splitlines() if line
    }


def _end_of(*arguments: str, patch: pytest.MonkeyPatch) -> int:
    """The exit code of the whole program."""
    patch.setattr(sys, "argv", [*arguments])
    with pytest.raises(SystemExit) as end:
        __main__.main()
    assert isinstance(end.value.code, int)
    return end.value.code
