"""Our graphs against small results that openai-whisper made (make_goldens.py); torch is not needed here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from captiond_engine.audio.mel import log_mel
from captiond_engine.engine import Engine
from captiond_engine.types import PromptSpec
from captiond_engine.whisper.loading import build_model
from captiond_engine.whisper.model import Prompt
from max.driver import CPU

from tests.engine.whisper import files
from tests.parity import clips, models, seeded, tasks

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
    """Batches of 3 with prompts and audio of unequal length, and each row alone."""
    model, rows, mels = models.seeded_model(size), golden(size)["rows"], seeded.mels_of(size)
    for first, prompts in ((0, seeded.prompts_of(size)), (3, seeded.task_prompts_of(size))):
        asked = [Prompt(*prompt) for prompt in prompts]
        encoded = model.encode(mels)
        batch = model.greedy(encoded, asked, max_new_tokens=40)
        outputs, logits = encoded.encoded.to_numpy().copy(), batch.first_logits.to_numpy().copy()
        for row, expected in enumerate(rows[first : first + 3]):
            np.testing.assert_allclose(seeded.sampled(outputs[row]), expected["encoded"], atol=ENCODED_BOUND)
            np.testing.assert_allclose(
                seeded.sampled(logits[row]), expected["first_logits"], atol=LOGITS_BOUND
            )
            np.testing.assert_allclose(batch.log_probabilities[row], expected["log_probabilities"], atol=1e-3)
            assert batch.tokens[row] == expected["tokens"]
            alone = model.greedy(model.encode(mels[row : row + 1]), [asked[row]], max_new_tokens=40)
            assert alone.tokens[0] == expected["tokens"]


@pytest.mark.slow
@pytest.mark.parametrize("size", models.sizes())
def test_seeded_models_hear_the_references_languages(size: str) -> None:
    expected = golden(size).get("languages")
    if expected is None:
        pytest.skip("an English-only model hears English")
    model = models.seeded_model(size)
    found = tasks.languages(model, model.encode(seeded.mels_of(size)))
    assert [heard for heard, _ in found] == [row[0][0] for row in expected]
    for (_, probabilities), row in zip(found, expected, strict=True):
        assert [probabilities[code] for code, _ in row] == pytest.approx(
            [value for _, value in row], abs=1e-4
        )
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["folder", "bin", "pt"])
def test_a_model_in_any_form_runs_in_the_engine(tmp_path: Path, form: str) -> None:
    """From files as they are published, float16, to a text: 128 mels, a hundred languages, unequal depths."""
    size = "mini-v3"
    if size not in models.sizes():
        pytest.skip(f"{size} is not among CAPTIOND_PARITY_SIZES")
    config, tokenizer = seeded.config_of(size), seeded.tokenizer_of(size)
    narrow = {name: array.astype(np.float16) for name, array in models.seeded_tensors(size).items()}
    if form == "pt":
        path = files.write_openai(tmp_path / "mini.pt", narrow, config)
    else:
        settings, pickled = files.hugging_face_config(config), form == "bin"
        path = files.write_hugging_face(
            tmp_path / "mini", narrow, config=settings, pickled=pickled, shards=1 + pickled
        )
        files.write_vocabulary(path, tokenizer, one_file=form == "folder")
        rules: dict[str, Any] = {"is_multilingual": True, "no_timestamps_token_id": tokenizer.no_timestamps}
        rules |= {"suppress_tokens": [], "begin_suppress_tokens": []}
        (path / "generation_config.json").write_text(json.dumps(rules), encoding="utf-8")
    engine = Engine.load(str(path), device="cpu", download=False)
    try:
        assert (engine.traits.mels, len(engine.traits.languages)) == (128, 100)
        pcm = clips.bundled()[0].pcm
        decoding = engine.decode_clip(pcm, window="full", prompt=PromptSpec("auto"))
        again = engine.decode_clip(pcm, window="full", prompt=PromptSpec(decoding.language))
    finally:
        engine.close()
    assert decoding.tokens == again.tokens
    assert decoding.language in tokenizer.languages
    assert engine.tokenizer.decode(decoding.tokens) == tokenizer.decode(decoding.tokens)
    if form != "pt":  # whose rules are the reference's own
        wide = {name: array.astype(np.float32) for name, array in narrow.items()}
        model = build_model(config, wide, CPU(), tokenizer)
        prompt = Prompt(tuple(tokenizer.prompt(PromptSpec(), language=decoding.language)[0]))
        expected = model.greedy(model.encode(log_mel(pcm, 128, 3000)[None]), [prompt])
        assert [token for token in expected.tokens[0] if token != tokenizer.end_of_text] == list(
            decoding.tokens
        )
        assert len(decoding.tokens) > 10
