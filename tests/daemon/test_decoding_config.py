"""The table [decoding]: what it asks of the engine, and which keys cannot stand together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from captiond import loading
from captiond.config import Config
from captiond.config_file import load
from captiond.decoding_config import DecodingConfig, fallback_options
from captiond.progress import StartDisplay
from captiond.segments import stream_settings
from captiond_engine.decoding.options import PLAIN_ONCE, Thresholds
from captiond_engine.engine import Engine
from captiond_engine.errors import ConfigError
from click.testing import CliRunner

from tests.sim.scripted import ScriptedDevice, ScriptedTokenizer, scripted_traits


def test_the_defaults_are_greedy_and_judge_nothing() -> None:
    assert fallback_options(DecodingConfig()) == replace(PLAIN_ONCE, budget_ms=3_000)
    assert fallback_options(DecodingConfig()).is_plain


def test_every_key_reaches_the_engine() -> None:
    config = load(
        None,
        [
            "model.name=small",
            "decoding.task=translate",
            "decoding.beam_size=5",
            "decoding.best_of=3",
            "decoding.temperatures=[0, 0.4]",
            "decoding.compression_ratio_threshold=3",
            "decoding.logprob_threshold=-2",
            "decoding.no_speech_threshold=0",
            "decoding.failed=suppress",
            "decoding.fallback_ms=0",
            "decoding.seed=7",
        ],
    )
    options = stream_settings(config, scripted_traits(), None, "").decoding
    assert (options.task, options.decoding.seed) == ("translate", 7)
    assert (options.beam_size, options.best_of, options.temperatures) == (5, 3, (0.0, 0.4))
    assert options.thresholds == Thresholds(3.0, -2.0, None)
    assert (options.hold_back, options.budget_ms) == (True, None)
    assert not options.is_plain


WRONG = [
    ("beam_size = 5\ntemperatures = [0.2]", "decoding.beam_size"),
    ("best_of = 5", "decoding.best_of"),
    ("temperatures = [0.0, 0.4, 0.4]", "decoding.temperatures"),
    ("temperatures = [0.4, 0.0]", "decoding.temperatures"),
    ("temperatures = []", "decoding.temperatures"),
    ("temperatures = [-0.1]", "decoding.temperatures"),
    ("temperatures = [0.0, 0.2]\ncompression_ratio_threshold = 0\nlogprob_threshold = 0", "temperatures"),
    ("failed = 'suppress'\ncompression_ratio_threshold = 0\nlogprob_threshold = 0", "decoding.failed"),
    ("logprob_threshold = 1.0", "decoding.logprob_threshold"),
    ("no_speech_threshold = 1.5", "decoding.no_speech_threshold"),
    ("unsure_threshold = 1.5", "decoding.unsure_threshold"),
    ("task = 'summarize'", "decoding.task"),
    ("task = 'translate'", "base.en"),
    ("beam_size = 17", "decoding.beam_size"),
    ("beams = 5", "decoding.beams"),
]


@pytest.mark.parametrize(("text", "told"), WRONG)
def test_config_check_tells_what_cannot_be(tmp_path: Path, text: str, told: str) -> None:
    from captiond.cli import main

    path = tmp_path / "captiond.toml"
    path.write_text(f"[decoding]\n{text}\n")
    done = CliRunner().invoke(main, ["config", "check", "--config", str(path)])
    shown = str(done.exception) + done.output
    assert done.exit_code != 0
    assert told in shown
    with pytest.raises(ConfigError, match=r"captiond\.toml"):
        load(path)


def test_a_model_that_knows_english_alone_does_not_translate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its name does not say so, it is found out when it is loaded."""
    closed: list[bool] = []
    engine = Engine(scripted_traits(), ScriptedTokenizer(), ScriptedDevice(()))
    monkeypatch.setattr(engine, "close", lambda: closed.append(True))
    monkeypatch.setattr(Engine, "load", lambda *_, **__: engine)
    config = load(None, ["model.name=demo-en", "decoding.task=translate"])
    with pytest.raises(ConfigError, match="English alone"):
        loading.load_engine(config, SimpleNamespace())  # type: ignore[arg-type]
    assert closed == [True]
    assert loading.load_engine(Config(), StartDisplay()).traits.name == "scripted"
