"""How long to wait for more, by configuration and card."""

from __future__ import annotations

from dataclasses import replace

import pytest
from captiond.segments import recording_settings, stream_settings
from captiond_engine.types import samples_from_ms

from tests.daemon.house import configured
from tests.sim.scripted import scripted_traits


@pytest.mark.parametrize(
    ("segment", "card_ms", "silence_ms", "early_ms"),
    [
        ({}, 0, 500, 0),
        ({}, 1000, 1000, 500),
        ({"silence_ms": 400}, 1000, 1000, 400),
        ({"early_silence_ms": 300}, 1000, 1000, 300),
        ({"early_silence_ms": 300}, 0, 500, 300),
        ({"unfinished_silence_ms": 1500}, 1000, 1500, 500),
        ({"unfinished_silence_ms": 450}, 1000, 500, 0),  # no shorter than any other
        ({"silence_ms": 2000}, 1000, 2000, 0),
    ],
)
def test_a_text_that_ends_no_sentence_may_be_waited_for(
    segment: dict[str, int], card_ms: int, silence_ms: int, early_ms: int
) -> None:
    config = configured(segment=segment)
    traits = replace(scripted_traits(), unfinished_silence=samples_from_ms(card_ms))
    live = stream_settings(config, traits, None, "")
    assert (live.silence, live.early_silence) == (samples_from_ms(silence_ms), samples_from_ms(early_ms))
    recorded = recording_settings(config, traits, None, "")
    assert recorded.silence == samples_from_ms(config.segment.silence_ms)
    assert (recorded.early_silence, recorded.partials) == (0, False)


@pytest.mark.parametrize(
    ("asked", "card", "held"), [(0, None, None), (0, 0.6, 0.6), (0.4, 0.6, 0.4), (0.4, None, 0.4)]
)
def test_the_card_says_which_few_words_are_believed_unless_the_configuration_does(
    asked: float, card: float | None, held: float | None
) -> None:
    config = configured(decoding={"unsure_threshold": asked})
    traits = replace(scripted_traits(), unsure=card)
    for settings in (stream_settings(config, traits, None, ""), recording_settings(config, traits, None, "")):
        assert settings.decoding.thresholds.unsure == held
        assert settings.decoding.is_plain
