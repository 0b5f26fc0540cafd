"""Two decoders, one answer: the kernels against the plain graph on the same encodings, with real weights."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from captiond_engine.audio.mel import log_mel
from captiond_engine.decoding.rules import Suppression
from captiond_engine.errors import DeviceError
from captiond_engine.types import Precision
from captiond_engine.whisper import row_decoder
from captiond_engine.whisper.cpu import lanes, processor
from captiond_engine.whisper.graphs import ROW_DECODERS
from captiond_engine.whisper.model import Encoding, Greedy, Prompt, WhisperModel
from max.driver import CPU, Buffer
from max.engine import InferenceSession

from tests.parity import clips, models

PLAIN = (50_257, 50_362)  # start of transcript, no timestamps; English-only vocabulary
HINTED = (50_360, 314, 1_049, 11, *PLAIN)
END, START = 50_256, 50_257
BATCHES = (
    (Prompt(PLAIN),),
    (Prompt(PLAIN), Prompt(HINTED, 4), Prompt((*PLAIN, 843))),
    (Prompt((START,)), Prompt(PLAIN), Prompt((*HINTED, 262, 717), 4), Prompt(PLAIN)),
)


@cache
def encoding(first: int, rows: int) -> Encoding:
    """``rows`` clips from the ``first`` on, in windows of 10 s."""
    found = (clips.bundled() * 2)[first : first + rows]
    mels = np.stack([log_mel(clip.pcm[:160_000], 80, 1_000) for clip in found])
    return models.bundled_decoded_by("decode").encode(mels)


def assert_same(fast: Greedy, slow: Greedy, exact: float = 1e-4) -> None:
    assert fast.tokens == slow.tokens
    for mine, theirs in zip(fast.log_probabilities, slow.log_probabilities, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=exact)
    np.testing.assert_allclose(fast.sums, slow.sums, atol=10 * exact)
    np.testing.assert_allclose(fast.no_speech, slow.no_speech, atol=exact)
    np.testing.assert_allclose(fast.first_logits.to_numpy(), slow.first_logits.to_numpy(), atol=10 * exact)


@pytest.mark.slow
@pytest.mark.parametrize("prompts", BATCHES, ids=len)
@pytest.mark.parametrize("first", range(0, 10, 2))
def test_kernels_say_what_the_plain_graph_says(first: int, prompts: tuple[Prompt, ...]) -> None:
    heard = encoding(first, len(prompts))
    fast = models.bundled_decoded_by("decode_float32").greedy(heard, prompts)
    assert_same(fast, models.bundled_decoded_by("decode").greedy(heard, prompts))


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1, 2, 9, None])
def test_kernels_keep_to_suppression_and_limit_as_the_plain_graph_does(limit: int | None) -> None:
    """End-of-text is never allowed, one token not at first: rows run to the limit, or to where room ends."""
    heard, prompts = encoding(0, 3), BATCHES[1]
    free = models.bundled_decoded_by("decode").greedy(heard, prompts)
    rules = Suppression.of(51_864, always=[END], first=[free.tokens[0][0]])
    slow, fast = (
        models.bundled_decoded_by(kind).greedy(heard, prompts, max_new_tokens=limit, suppression=rules)
        for kind in ("decode", "decode_float32")
    )
    assert_same(fast, slow, 1e-3)
    assert {len(tokens) for tokens in fast.tokens} == {limit or 224}
    assert fast.tokens[0][0] != free.tokens[0][0]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_rounded_weights_stay_near_float32(precision: Precision) -> None:
    """Logits move by little, and most tokens stay; the figures of real use are the bench's."""
    heard, prompts = encoding(0, 4), BATCHES[2]
    slow, fast = (
        models.bundled_decoded_by(ROW_DECODERS[name]).greedy(heard, prompts)
        for name in ("float32", precision)
    )
    assert models.bundled_decoded_by(ROW_DECODERS[precision]).precision == precision
    logits = slow.first_logits.to_numpy()
    off = np.abs(fast.first_logits.to_numpy() - logits).max() / np.abs(logits).max()
    assert 0 < off < {"bfloat16": 0.03, "int8": 0.1}[precision]
    said = [(a, b) for x, y in zip(slow.tokens, fast.tokens, strict=True) for a, b in zip(x, y, strict=False)]
    assert sum(a == b for a, b in said) > len(said) / 2


def other(precision: Precision, width: int, hands: int) -> WhisperModel:
    """The bundled model with kernels of another width, or of two threads."""
    checkpoint, usual = models.bundled_checkpoint(), models.bundled_decoded_by(ROW_DECODERS[precision])
    graph, bank = row_decoder.build(checkpoint.config, checkpoint.tensors, precision, width, hands)
    session = InferenceSession(devices=[CPU()])
    decode = session.init(session.compile(graph), weights_registry=bank.registry), bank
    encode = usual._encode, usual._encode_weights
    parts = (usual.tokenizer, usual.suppression, usual.device, encode, decode)
    return WhisperModel(checkpoint.config, *parts, row_decoder.prompt_inputs, precision)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "width", "hands"),
    [("float32", 8, 1), ("float32", 4, 1), ("int8", 8, 1), ("int8", 4, 1), ("float32", 16, 2)],
)
def test_every_width_says_the_same(precision: Precision, width: int, hands: int) -> None:
    """What a processor without AVX-512 would run, run here."""
    if width > lanes(processor()):
        pytest.skip(f"this processor has no vectors of {width} lanes")
    found, prompts = other(precision, width, hands), BATCHES[2]
    heard = encoding(0, 4)
    usual = models.bundled_decoded_by(ROW_DECODERS[precision]).greedy(heard, prompts)
    assert_same(found.greedy(heard, prompts), usual, 1e-4 if precision == "float32" else 5e-2)


def test_a_decode_that_would_leave_the_cache_is_refused() -> None:
    model = models.bundled_model()
    too_long = Prompt((*PLAIN, *[262] * 446))
    with pytest.raises(ValueError, match="no room"):
        model.greedy(encoding(0, 1), [too_long])
    with pytest.raises(DeviceError, match="no room"):
        row_decoder.prompt_rows([too_long.tokens], [0], 448)
    decode = row_decoder.DecodeInputs([PLAIN], [0], 448, 447, END, 50_361)
    with pytest.raises(DeviceError, match="do not fit"):
        row_decoder.prompt_inputs(decode, CPU())


@pytest.mark.parametrize("row", [(51_900 + 64, 0, 0, 3), (5, 0, 448, 3), (5, 1, 0, 3), (-1, 0, 0, 3)])
def test_a_row_that_is_out_of_range_is_an_error_and_the_model_goes_on(
    row: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernels' own guard, should the host's ever fail."""
    model, heard = models.bundled_model(), encoding(0, 1)
    before = model.greedy(heard, [Prompt(PLAIN)])
    right = model._prompt_inputs

    def wrong(decode: row_decoder.DecodeInputs, device: object) -> list[Buffer]:
        rows = Buffer.from_numpy(np.array([row], np.int32))
        counts = Buffer.from_numpy(np.array([1, 0, 5], np.int32))
        return [rows, counts, *right(decode, CPU())[2:]]

    with monkeypatch.context() as changed:
        changed.setattr(model, "_prompt_inputs", wrong)
        with pytest.raises(DeviceError):
            model.greedy(heard, [Prompt(PLAIN)])
    assert model.greedy(heard, [Prompt(PLAIN)]).tokens == before.tokens
