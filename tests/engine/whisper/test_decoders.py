"""Two decoders, one answer: the kernels against the plain graph on the same encodings, with real weights."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from captiond_engine.audio.mel import log_mel
from captiond_engine.decoding.rules import Suppression
from captiond_engine.errors import DeviceError
from captiond_engine.types import Float32Array, Precision
from captiond_engine.whisper import row_decoder
from captiond_engine.whisper.cache import Seat
from captiond_engine.whisper.cpu import lanes, processor
from captiond_engine.whisper.graphs import ROW_DECODERS
from captiond_engine.whisper.kernels import Kernels
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
def mels(first: int, rows: int) -> Float32Array:
    """``rows`` clips from the ``first`` on, in windows of 10 s."""
    found = (clips.bundled() * 2)[first : first + rows]
    return np.stack([log_mel(clip.pcm[:160_000], 80, 1_000) for clip in found])


def decoded(
    kind: str,
    heard: Float32Array,
    prompts: Sequence[Prompt],
    limit: int | None = None,
    rules: Suppression | None = None,
) -> Greedy:
    """What the bundled model says with one of its decoders."""
    model = models.bundled_decoded_by(kind)
    return model.greedy(model.encode(heard), prompts, max_new_tokens=limit, suppression=rules)


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
    heard = mels(first, len(prompts))
    assert_same(decoded("decode_float32", heard, prompts), decoded("decode", heard, prompts))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["decode", "decode_float32"])
def test_rows_may_listen_to_audio_of_unequal_length(kind: str) -> None:
    """Joined in one decode they say what each says alone; two rows may share a seat."""
    model, prompts = models.bundled_decoded_by(kind), BATCHES[1]
    lengths = (300, 1_000, 402)
    windows = [mels(row, 1)[:, :, :hops] for row, hops in enumerate(lengths)]
    alone = [
        model.greedy(model.encode(window), [prompt]) for window, prompt in zip(windows, prompts, strict=True)
    ]
    model._seats.reserve(3)
    heard = Encoding.joined([model.encode(window) for window in windows])
    together = model.greedy(heard, prompts)
    twice = model.greedy(heard.take([0, 0, 1, 1, 2, 2]), [prompt for prompt in prompts for _ in range(2)])
    for row, one in enumerate(alone):
        assert together.tokens[row] == twice.tokens[2 * row] == twice.tokens[2 * row + 1] == one.tokens[0]
        np.testing.assert_allclose(together.log_probabilities[row], one.log_probabilities[0], atol=1e-4)
        np.testing.assert_allclose(together.no_speech[row], one.no_speech[0], atol=1e-4)


@pytest.mark.slow
def test_an_encoding_whose_seat_was_taken_is_refused() -> None:
    model = models.bundled_decoded_by("decode_float32")
    model._seats.reserve(1)
    width = len(model._seats._turns)
    first = model.encode(mels(0, 1))
    for row in range(width):
        model.encode(mels(row + 1, 1))
    with pytest.raises(ValueError, match="seat"):
        model.greedy(first, [Prompt(PLAIN)])


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1, 2, 9, None])
def test_kernels_keep_to_suppression_and_limit_as_the_plain_graph_does(limit: int | None) -> None:
    """End-of-text is never allowed, one token not at first: rows run to the limit, or to where room ends."""
    heard, prompts = mels(0, 3), BATCHES[1]
    free = decoded("decode", heard, prompts)
    rules = Suppression.of(51_864, always=[END], first=[free.tokens[0][0]])
    slow, fast = (decoded(kind, heard, prompts, limit, rules) for kind in ("decode", "decode_float32"))
    assert_same(fast, slow, 1e-3)
    assert {len(tokens) for tokens in fast.tokens} == {limit or 224}
    assert fast.tokens[0][0] != free.tokens[0][0]


@pytest.mark.slow
@pytest.mark.parametrize("precision", models.PRECISIONS)
def test_rounded_weights_stay_near_float32(precision: Precision) -> None:
    """Logits move by little, and most tokens stay; the figures of real use are the bench's."""
    heard, prompts = mels(0, 4), BATCHES[2]
    slow, fast = (decoded(ROW_DECODERS[name], heard, prompts) for name in ("float32", precision))
    assert models.bundled_decoded_by(ROW_DECODERS[precision]).precision == precision
    logits = slow.first_logits.to_numpy()
    off = np.abs(fast.first_logits.to_numpy() - logits).max() / np.abs(logits).max()
    assert 0 < off < {"bfloat16": 0.03, "int8": 0.1}[precision]
    said = [(a, b) for x, y in zip(slow.tokens, fast.tokens, strict=True) for a, b in zip(x, y, strict=False)]
    assert sum(a == b for a, b in said) > len(said) / 2


def other(precision: Precision, width: int, hands: int) -> WhisperModel:
    """The bundled model with kernels of another width, or of two threads."""
    checkpoint, usual = models.bundled_checkpoint(), models.bundled_decoded_by(ROW_DECODERS[precision])
    kernels = Kernels(width, hands)
    graph, bank = row_decoder.build(checkpoint.config, checkpoint.tensors, precision, kernels)
    session = InferenceSession(devices=[CPU()])
    decode = session.init(session.compile(graph), weights_registry=bank.registry), bank
    encode = usual._encode, usual._encode_weights
    parts = (usual.tokenizer, usual.suppression, usual.device, encode, decode)
    return WhisperModel(
        checkpoint.config, *parts, row_decoder.prompt_inputs, precision, row_decoder.kept_type(precision)
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "width", "hands"),
    [("float32", 8, 1), ("int8", 4, 2)],  # test_kernels.py has each kernel at each width
)
def test_every_width_says_the_same(precision: Precision, width: int, hands: int) -> None:
    """What a processor without AVX-512 would run, run here."""
    if width > lanes(processor()):
        pytest.skip(f"this processor has no vectors of {width} lanes")
    found, prompts = other(precision, width, hands), BATCHES[2]
    heard = mels(0, 4)
    usual = decoded(ROW_DECODERS[precision], heard, prompts)
    assert_same(found.greedy(found.encode(heard), prompts), usual, 1e-4 if precision == "float32" else 5e-2)


def test_a_decode_that_would_leave_the_cache_is_refused() -> None:
    model = models.bundled_model()
    too_long = Prompt((*PLAIN, *[262] * 446))
    with pytest.raises(ValueError, match="no room"):
        model.greedy(model.encode(mels(0, 1)), [too_long])
    with pytest.raises(DeviceError, match="no room"):
        row_decoder.prompt_rows([too_long.tokens], [0], 448)
    decode = row_decoder.DecodeInputs([PLAIN], [0], [Seat(0, 500, 1)], 448, 447, END, 50_361)
    with pytest.raises(DeviceError, match="do not fit"):
        row_decoder.prompt_inputs(decode, CPU())


@pytest.mark.parametrize("row", [(51_900 + 64, 0, 0, 3), (5, 0, 448, 3), (5, 1, 0, 3), (-1, 0, 0, 3)])
def test_a_row_that_is_out_of_range_is_an_error_and_the_model_goes_on(
    row: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernels' own guard, should the host's ever fail."""
    model = models.bundled_model()
    heard = model.encode(mels(0, 1))
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


@pytest.mark.parametrize("seat", [(-1, 500), (99, 500), (0, 0), (0, 1_501)])
def test_a_seat_that_is_not_there_is_an_error_and_the_model_goes_on(
    seat: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models.bundled_model()
    heard = model.encode(mels(0, 1))
    before = model.greedy(heard, [Prompt(PLAIN)])
    right = model._prompt_inputs

    def wrong(decode: row_decoder.DecodeInputs, device: object) -> list[Buffer]:
        inputs = right(decode, CPU())
        inputs[3] = Buffer.from_numpy(np.array([seat], np.int32))
        return inputs

    with monkeypatch.context() as changed:
        changed.setattr(model, "_prompt_inputs", wrong)
        with pytest.raises(DeviceError):
            model.greedy(heard, [Prompt(PLAIN)])
    assert model.greedy(heard, [Prompt(PLAIN)]).tokens == before.tokens


def test_an_encoding_of_another_model_is_refused() -> None:
    one, other = (models.bundled_decoded_by(kind) for kind in ("decode_float32", "decode"))
    heard = one.encode(mels(0, 1))
    other.encode(mels(0, 1))
    with pytest.raises(ValueError, match="seat"):
        other.greedy(heard, [Prompt(PLAIN)])
