"""Dimensions and heads of a model: what is read, what is taken where nothing is said, what is refused."""

from __future__ import annotations

import json

import pytest
from captiond_engine.errors import ModelError
from captiond_engine.whisper.config import WhisperConfig

SMALL = WhisperConfig(8, 10, 128, 2, 1, 40, 12, 128, 2, 3)


def test_without_a_word_of_its_makers_the_last_half_of_layers_times_words() -> None:
    """As openai-whisper (model.py): of three layers the last two."""
    assert SMALL.aligned_by == ((1, 0), (1, 1), (2, 0), (2, 1))
    assert SMALL.with_alignment_heads(None) == SMALL


def test_of_many_heads_some_from_all_layers_of_the_half_are_taken() -> None:
    large = WhisperConfig(128, 1500, 1280, 20, 32, 51_866, 448, 1280, 20, 32)
    assert len(large.aligned_by) == len(set(large.aligned_by)) == 24
    assert {layer for layer, _ in large.aligned_by} == set(range(16, 32))
    base = WhisperConfig(80, 1500, 512, 8, 6, 51_865, 448, 512, 8, 6)
    assert len(base.aligned_by) == 24


def test_heads_that_are_named_are_taken_once_in_their_order() -> None:
    assert SMALL.with_alignment_heads([[2, 1], [0, 0], [2, 1]]).aligned_by == ((2, 1), (0, 0))


@pytest.mark.parametrize(
    "named", [7, "all", [[0]], [[3, 0]], [[0, 2]], [[-1, 0]], [[True, 0]], [["0", 0]], {}]
)
def test_heads_that_are_not_there_are_refused(named: object) -> None:
    with pytest.raises(ModelError, match="alignment_heads") as caught:
        SMALL.with_alignment_heads(named)
    assert "layer below 3" in caught.value.message


def test_a_config_survives_json() -> None:
    config = SMALL.with_alignment_heads([[1, 0]])
    assert WhisperConfig(**json.loads(json.dumps(config.facts))) == config
    assert "alignment_heads" not in config.dimensions
