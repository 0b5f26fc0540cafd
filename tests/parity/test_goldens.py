"""Our graphs against small results that openai-whisper made (make_goldens.py); torch is not needed here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from captiond_engine.audio.mel import log_mel
from captiond_engine.whisper.model import Prompt

from tests.parity import clips, models, seeded

GOLDENS = Path(__file__).parent / "goldens"
PLAIN = Prompt((50_257, 50_362))  # start of transcript, no timestamps; English-only vocabulary

# What float32 explains, as absolute differences: the reference sums in another order.
MEL_BOUND, ENCODED_BOUND, LOGITS_BOUND = 1e-4, 1e-4, 2e-4


def golden(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((GOLDENS / f"{name}.json").read_text(encoding="utf-8"))
    return content


@pytest.mark.parametrize("clip", clips.bundled(), ids=lambda clip: clip.id)
def test_bundled_model_says_what_the_reference_says(clip: clips.Clip) -> None:
    expected = golden("demo-en")["clips"][clip.id]
    model = models.bundled_model()
    mel = log_mel(clip.pcm, 80, 3000)
    np.testing.assert_allclose(seeded.sampled(mel), expected["mel"], atol=MEL_BOUND)
    encoding = model.encode(mel[None])
    np.testing.assert_allclose(
        seeded.sampled(encoding.encoded.to_numpy()[0]), expected["encoded"], atol=ENCODED_BOUND
    )
    decoding = model.decode(encoding, [PLAIN], ["en"])[0]
    assert list(decoding.tokens) == expected["tokens"]
    assert model.tokenizer is not None
    assert model.tokenizer.decode(decoding.tokens).strip() == expected["text"]
    assert decoding.no_speech_probability == pytest.approx(expected["no_speech"], abs=1e-4)
    average = decoding.sum_log_probability / (len(decoding.tokens) + 1)
    assert average == pytest.approx(expected["average_log_probability"], abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("size", models.sizes())
def test_seeded_models_choose_the_references_tokens(size: str) -> None:
    """Batch 3 with prompts and audio of unequal length, and each row alone."""
    model, rows = models.seeded_model(size), golden(size)["rows"]
    mels = seeded.mels()
    prompts = [Prompt(p, s) for p, s in zip(seeded.PROMPTS, seeded.START_INDICES, strict=True)]
    together = model.encode(mels)
    batch = model.greedy(together, prompts, max_new_tokens=40)
    for row, expected in enumerate(rows):
        alone = model.greedy(model.encode(mels[row : row + 1]), [prompts[row]], max_new_tokens=40)
        encoded = seeded.sampled(together.encoded.to_numpy()[row])
        np.testing.assert_allclose(encoded, expected["encoded"], atol=ENCODED_BOUND)
        logits = seeded.sampled(batch.first_logits.to_numpy()[row])
        np.testing.assert_allclose(logits, expected["first_logits"], atol=LOGITS_BOUND)
        np.testing.assert_allclose(batch.log_probabilities[row], expected["log_probabilities"], atol=1e-3)
        assert batch.tokens[row] == expected["tokens"]
        assert alone.tokens[0] == expected["tokens"]
