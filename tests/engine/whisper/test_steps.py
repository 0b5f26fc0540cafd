"""The step graph of devices other than a CPU, run on one: pass by pass it says what one call says."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from captiond_engine.decoding.rules import Suppression
from captiond_engine.errors import DeviceError
from captiond_engine.types import Precision
from captiond_engine.whisper import decoder, encoder, step_decoder, step_passes
from captiond_engine.whisper.cache import Seats
from captiond_engine.whisper.config import WhisperConfig
from captiond_engine.whisper.decode_inputs import BLOCKED
from captiond_engine.whisper.model import Encoding, Greedy, Prompt, WhisperModel
from captiond_engine.whisper.step_decoder import tables
from captiond_engine.whisper.step_passes import StepDecoder
from captiond_engine.whisper.step_search import StepPasses
from captiond_engine.whisper.step_state import Said, rounded_up
from max.driver import CPU, Buffer
from max.dtype import DType
from max.graph import DeviceRef

from tests.engine.whisper.test_decoders import BATCHES, END, PLAIN, mels
from tests.parity import models

CONTROL = (END, 50_361)  # end-of-text, no-speech of the English-only vocabulary


@pytest.mark.parametrize("tokens", [1, 3, 5])
def test_tables_put_each_token_in_its_place_and_hide_what_comes_after(tokens: int) -> None:
    made, context = tables(5, tokens), 5
    for position in range(context):
        seen = [place for place in range(context) if made.visible[position, place] == 0]
        assert seen == list(range(position + 1))
        assert set(made.visible[position, position + 1 :]) <= {BLOCKED}
        written = {p: int(made.offset[position, p]) for p in range(context) if made.fresh[position, p]}
        assert written == {position + n: n for n in range(tokens) if position + n < context}
        assert np.flatnonzero(made.same[position]).tolist() == [position]
    assert made.offset.min() >= 0
    assert made.offset.max() < tokens  # an index of a token, also where it is not used


@pytest.mark.parametrize(("count", "size"), [(1, 64), (64, 64), (65, 128), (448, 448), (440, 448)])
def test_sizes_are_few_and_never_above_the_context(count: int, size: int) -> None:
    assert rounded_up(count, 64, 448) == size


@pytest.mark.parametrize("kept", [DType.float32, DType.bfloat16])
def test_all_graphs_take_the_seats_as_they_are_made(kept: DType) -> None:
    """The same buffers go to the encoder, the greedy loop and the graph that hands them to the steps."""
    config, device = WhisperConfig(80, 6, 128, 2, 1, 51_864, 8, 128, 2, 3), DeviceRef.CPU()
    seats, count = Seats(config, CPU(), kept), 2 * config.n_text_layer
    seats.reserve(2)
    listening, bank = step_decoder.build_listen(config, {}, device, kept)
    taken = {
        "encoder": encoder.input_types(config, device, kept)[2:],
        "loop": decoder._input_types(config, device, kept)[-count:],
        "listen": [value.type for value in listening.inputs][-count:],
    }
    assert not bank.registry
    for types in taken.values():
        assert len(types) == len(seats.buffers)
        for buffer, wanted in zip(seats.buffers, types, strict=True):
            assert wanted.dtype == buffer.dtype
            assert [int(dim) for dim in wanted.shape[1:]] == list(buffer.shape[1:])
    heard = [value.type for value in listening.inputs][1 : 1 + count]
    read = step_decoder._input_types(config, device, kept)[step_decoder.TENSORS :][:count]
    assert [(t.dtype, t.shape) for t in heard] == [(t.dtype, t.shape) for t in read]


def heard(model: WhisperModel, encoding: Encoding) -> Any:
    return model._seats, encoding.seats


def stepped(
    steps: StepDecoder,
    model: WhisperModel,
    encoding: Encoding,
    prompts: Sequence[Prompt],
    limit: int | None = None,
    rules: Suppression | None = None,
) -> Said:
    chosen = rules or model.suppression
    return steps.greedy(
        [p.tokens for p in prompts],
        [p.start for p in prompts],
        heard(model, encoding),
        model._limit(encoding, prompts, limit),
        (chosen.first, chosen.always),
        model._control_tokens(),
    )


def assert_same(said: Said, slow: Greedy, exact: float = 1e-4) -> None:
    assert said.tokens == slow.tokens
    for mine, theirs in zip(said.log_probabilities, slow.log_probabilities, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=exact)
    np.testing.assert_allclose(said.no_speech, slow.no_speech, atol=exact)
    np.testing.assert_allclose(said.first_logits, slow.first_logits.to_numpy(), atol=10 * exact)


@pytest.mark.slow
@pytest.mark.parametrize("prompts", BATCHES, ids=len)
@pytest.mark.parametrize("first", [0, 4])
def test_steps_say_what_the_loop_says(first: int, prompts: tuple[Prompt, ...]) -> None:
    model, steps = models.bundled_decoded_by("decode"), models.bundled_steps()
    encoding = model.encode(mels(first, len(prompts)))
    assert_same(stepped(steps, model, encoding, prompts), model.greedy(encoding, prompts))


@pytest.mark.slow
def test_steps_hear_windows_of_unequal_length() -> None:
    model, steps, prompts = models.bundled_decoded_by("decode"), models.bundled_steps(), BATCHES[1]
    model._seats.reserve(3)
    windows = [mels(row, 1)[:, :, :hops] for row, hops in enumerate((300, 1_000, 402))]
    encoding = Encoding.joined([model.encode(window) for window in windows])
    assert_same(stepped(steps, model, encoding, prompts), model.greedy(encoding, prompts))


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1, 2, 9])
def test_steps_keep_to_suppression_and_limit(limit: int) -> None:
    model, steps, prompts = models.bundled_decoded_by("decode"), models.bundled_steps(), BATCHES[1]
    encoding = model.encode(mels(0, 3))
    free = model.greedy(encoding, prompts)
    rules = Suppression.of(51_864, always=[END], first=[free.tokens[0][0]])
    slow = model.greedy(encoding, prompts, max_new_tokens=limit, suppression=rules)
    assert_same(stepped(steps, model, encoding, prompts, limit, rules), slow)


@pytest.mark.slow
def test_no_room_is_refused_before_the_device_is_asked() -> None:
    model, steps = models.bundled_decoded_by("decode"), models.bundled_steps()
    encoding = model.encode(mels(0, 1))
    nothing = Suppression.of(51_864)
    masks = (nothing.first, nothing.always)
    with pytest.raises(DeviceError, match="do not fit in 448"):
        steps.begin([PLAIN], [0], heard(model, encoding), 447, masks, CONTROL[1])


class Recorder:
    """A device that records passes, on a CPU: a replay reads and fills what was recorded, nothing else.

    ``runs``: whether recording a pass also runs it; MAX does not say, and it must not matter.
    """

    def __init__(self, model: Any, *, runs: bool) -> None:
        self._model, self._runs = model, runs
        self._recorded: dict[int, tuple[tuple[Buffer, ...], list[Buffer]]] = {}
        self.replays = 0

    def execute(self, *inputs: Buffer) -> list[Buffer]:
        return list(self._model.execute(*inputs))

    def capture(self, key: int, *inputs: Buffer) -> list[Buffer]:
        before = [buffer.to_numpy().copy() for buffer in inputs[-8:]]
        outputs = self.execute(*inputs)
        if not self._runs:
            for buffer, content in zip(inputs[-8:], before, strict=True):
                np.copyto(buffer.to_numpy(), content)
        self._recorded[key] = inputs, outputs
        return outputs

    def replay(self, key: int, *inputs: Buffer) -> None:
        recorded, outputs = self._recorded[key]
        assert [b._data_ptr() for b in inputs] == [b._data_ptr() for b in recorded]
        self.replays += 1
        for old, new in zip(outputs, self.execute(*recorded), strict=True):
            np.copyto(old.to_numpy(), new.to_numpy())

    def release_captured_graph(self, key: int) -> None:
        del self._recorded[key]


def recording(steps: StepDecoder, *, runs: bool) -> tuple[StepDecoder, Recorder]:
    recorder = Recorder(steps._step, runs=runs)
    model: Any = recorder
    parts = (model, steps._weights), steps._listen, steps._kept
    return StepDecoder(steps._config, steps._device, *parts, record=True), recorder


@pytest.mark.slow
@pytest.mark.parametrize("runs", [True, False])
def test_replayed_passes_say_what_the_loop_says(runs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decodes of several sizes in turn, each of them twice: more than are kept."""
    monkeypatch.setattr(step_passes, "KEPT_STATES", 2)
    model = models.bundled_decoded_by("decode")
    steps, recorder = recording(models.bundled_steps(), runs=runs)
    for turn in range(2):
        for rows in (1, 3, 2, 4):
            prompts = (BATCHES[1] * 2)[turn : turn + rows]
            encoding = model.encode(mels(turn + rows, rows))
            assert_same(stepped(steps, model, encoding, prompts), model.greedy(encoding, prompts))
    assert recorder.replays
    assert steps.record


@pytest.mark.slow
def test_a_device_that_cannot_record_runs_each_pass() -> None:
    model = models.bundled_decoded_by("decode")
    steps, recorder = recording(models.bundled_steps(), runs=True)

    def refuse(*_: Any) -> list[Buffer]:
        raise RuntimeError("no capture here")

    recorder.capture = refuse  # type: ignore[method-assign]
    encoding = model.encode(mels(0, 3))
    assert_same(stepped(steps, model, encoding, BATCHES[1]), model.greedy(encoding, BATCHES[1]))
    assert (steps.record, steps.why_not_recorded) == (False, "no capture here")


@pytest.mark.slow
@pytest.mark.parametrize("recorded", [False, True])
def test_passes_of_a_search_give_the_logits_of_each_text(recorded: bool) -> None:
    """Rows that split, cross, die and come back, against each text read from its start."""
    model, steps = models.bundled_decoded_by("decode"), models.bundled_steps()
    if recorded:
        steps, _ = recording(steps, runs=True)
    encoding = model.encode(mels(0, 2))
    clips: Any = [
        SimpleNamespace(prompt=prompt, window=window, width=width)
        for prompt, window, width in zip(BATCHES[1], (1, 0, 1), (3, 1, 2), strict=False)
    ]
    passes = StepPasses(steps, model.config, heard(model, encoding), CONTROL[1])
    logits, silence = passes.begin(clips)
    texts, owners = [clip.prompt.tokens for clip in clips], [0, 1, 2]

    def check() -> None:
        whole = Encoding(
            tuple(encoding.seats[clips[o].window] for o in owners),
            None,
            (0.0,) * len(owners),
            (1,) * len(owners),
        )
        slow = model.greedy(
            whole,
            [Prompt(text, clips[o].prompt.start) for text, o in zip(texts, owners, strict=True)],
            max_new_tokens=1,
        )
        np.testing.assert_allclose(logits, slow.first_logits.to_numpy(), atol=1e-3)
        if len(texts[0]) == len(clips[0].prompt.tokens):
            np.testing.assert_allclose(silence, slow.no_speech, atol=1e-4)

    check()
    rng = np.random.default_rng(4)
    for parents in ([0, 0, 0, 1, 2, 2], [2, 0, 3, 5, 5], [1, 0, 0, 4, 3], [0, 1], [1, 1, 0]):
        tokens = rng.integers(0, 50_000, len(parents))
        texts = [(*texts[p], int(token)) for p, token in zip(parents, tokens, strict=True)]
        owners = [owners[p] for p in parents]
        logits = passes.step(tokens, np.array(parents))
        check()
    with pytest.raises(DeviceError, match="more rows"):
        passes.step(np.zeros(4, np.int64), np.zeros(4, np.int64))


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("CAPTIOND_GPU_GRAPHS"),
    reason="four graphs that only a GPU runs compile for minutes; CAPTIOND_GPU_GRAPHS=1 has them",
)
@pytest.mark.parametrize("precision", ["bfloat16"])
def test_rounded_graphs_are_near_the_exact_ones(precision: Precision) -> None:
    """What a GPU would run, here: products in bfloat16, the rest in float32. Log-probabilities of the same
    texts differ by what rounding to eight bits explains."""
    exact, rounded = models.bundled_decoded_by("decode"), models.bundled_plain(precision)
    for first in (0, 4):
        sound = mels(first, 3)
        slow = exact.greedy(exact.encode(sound), BATCHES[1])
        fast = rounded.greedy(rounded.encode(sound), BATCHES[1])
        mine, theirs = fast.first_logits.to_numpy(), slow.first_logits.to_numpy()
        assert 0 < np.abs(mine - theirs).max() < 0.05 * np.abs(theirs).max()
        assert mine.dtype == np.float32
        same = sum(a == b for a, b in zip(fast.tokens, slow.tokens, strict=True))
        assert same >= 2
        encoding = rounded.encode(sound)
        said = stepped(models.bundled_steps(precision), rounded, encoding, BATCHES[1])
        np.testing.assert_allclose(said.first_logits, mine, atol=0.05 * np.abs(theirs).max())
