"""The decoder's kernels: each equals NumPy, in every precision and width; none writes where it must not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from captiond_engine.types import Float32Array, Precision
from captiond_engine.whisper import row_decoder
from captiond_engine.whisper.cpu import has_halves, lanes, processor
from captiond_engine.whisper.kernels import KERNELS, Kernels
from captiond_engine.whisper.packed import PRECISIONS, pack, unpack
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from max.driver import CPU, Buffer
from max.dtype import DType
from max.engine import InferenceSession, Model
from max.graph import BufferType, BufferValue, DeviceRef, Graph, TensorType, TensorValue, ops

from tests.engine.whisper import files

F32, I32, I64 = DType.float32, DType.int32, DType.int64
WIDEST = lanes(processor())
WIDTHS = [width for width in (16, 8, 4) if width <= WIDEST]
STORED = {"float32": F32, "bfloat16": DType.uint16, "int8": DType.uint8}
MANY = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
_erf = np.vectorize(math.erf, otypes=[np.float64])

Shape = tuple[DType, tuple[int | str, ...]]


def tensor(dtype: DType, *shape: int | str) -> TensorType:
    return TensorType(dtype, shape, DeviceRef.CPU())


def buffer(dtype: DType, *shape: int | str) -> BufferType:
    return BufferType(dtype, shape, DeviceRef.CPU())


def call(name: str, values: Sequence[Any], *results: TensorType, **parameters: int) -> list[TensorValue]:
    values = [value.buffer if isinstance(value.type, BufferType) else value.tensor for value in values]
    operation = ops.inplace_custom if any(isinstance(v, BufferValue) for v in values) else ops.custom
    found = operation(name, DeviceRef.CPU(), values, list(results), parameters=parameters)
    return [value.tensor for value in found]


def compiled(name: str, inputs: Sequence[TensorType | BufferType], build: Any) -> Model:
    with Graph(name, input_types=list(inputs), custom_extensions=[KERNELS]) as graph:
        graph.output(*build(*graph.inputs))
    session = InferenceSession(devices=[CPU()])
    return session.init(session.compile(graph))


def run(model: Model, *arrays: Any) -> list[Any]:
    return [out.to_numpy() for out in model.execute(*arrays)]


# --- packing -----------------------------------------------------------------------------------------


@MANY
@given(st.sampled_from(PRECISIONS), st.integers(1, 150), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_unpacking_gives_the_matrix_back(precision: Precision, outputs: int, inputs: int, seed: int) -> None:
    matrix = np.random.default_rng(seed).standard_normal((outputs, 4 * inputs)).astype(np.float32)
    packed = pack(matrix, precision)
    found = unpack(packed, outputs)
    step = np.abs(matrix).max(1, keepdims=True) / 127
    allowed = {"float32": 0.0, "bfloat16": np.abs(matrix) * 2**-8, "int8": step * 0.501}[precision]
    assert (np.abs(found - matrix) <= allowed).all()
    assert packed.weights.ctypes.data % 64 == 0
    assert len(packed.scales) % 64 == 0


def test_a_row_of_zeros_is_packed() -> None:
    assert not unpack(pack(np.zeros((3, 8), np.float32), "int8"), 3).any()


# --- linear layers -----------------------------------------------------------------------------------


@cache
def linear_layers(precision: Precision) -> Model:
    """All three layers at all widths in one graph: y [M, N] for norm, norm + GELU, residual, by width."""
    inputs = [
        tensor(F32, "M", "K"),
        tensor(F32, "M", "N"),
        tensor(F32, 2, "K"),
        tensor(STORED[precision], "blocks", "words", 64, "group"),
        tensor(F32, "P"),
        tensor(F32, "P"),
        tensor(I32, 1),
    ]

    def build(x: Any, residual: Any, norm: Any, *layer: Any) -> list[TensorValue]:
        found = []
        for width in WIDTHS:
            for name, first in (
                ("norm_project", norm),
                ("norm_project_gelu", norm),
                ("project_add", residual),
            ):
                values, y = [x, first, *layer], tensor(F32, "M", "N")
                found += call(f"captiond_{name}", values, y, WIDTH=width, HANDS=1)
        return found

    return compiled(f"linear_{precision}", inputs, build)


@cache
def shared_layers(precision: Precision) -> Model:
    """Norm and product, by one thread and by three."""
    inputs = [
        tensor(F32, "M", "K"),
        tensor(F32, 2, "K"),
        tensor(STORED[precision], "blocks", "words", 64, "group"),
        tensor(F32, "P"),
        tensor(F32, "P"),
        tensor(I32, 1),
    ]

    def build(*values: Any) -> list[TensorValue]:
        y = tensor(F32, "M", 140)
        return [
            call("captiond_norm_project", list(values), y, WIDTH=WIDEST, HANDS=hands)[0] for hands in (1, 3)
        ]

    return compiled(f"shared_{precision}", inputs, build)


def normed(x: Float32Array, norm: Float32Array) -> Float32Array:
    centred = x - x.mean(1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5)
    return np.asarray(scaled * norm[0] + norm[1], np.float32)


def rounded(x: Float32Array) -> Float32Array:
    """Rows as signed bytes of one scale, as numbers again."""
    scale = np.maximum(np.abs(x).max(1, keepdims=True), 1e-20) / np.float32(127)
    return np.asarray(np.rint(x / scale) * scale, np.float32)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_linear_layers_equal_numpy(precision: Precision) -> None:
    model = linear_layers(precision)

    @MANY
    @given(st.integers(1, 11), st.integers(1, 140), st.integers(1, 3), st.integers(0, 2**32 - 1))
    def equal(rows: int, outputs: int, inputs: int, seed: int) -> None:
        rng = np.random.default_rng(seed)

        def random(*shape: int) -> Float32Array:
            return rng.standard_normal(shape).astype(np.float32)

        x, residual, norm = random(rows, 64 * inputs), random(rows, outputs), random(2, 64 * inputs)
        matrix, counted = random(outputs, 64 * inputs), rng.integers(1, rows + 1)
        packed = pack(matrix, precision)
        bias = np.zeros_like(packed.scales)
        bias[:outputs] = random(outputs)
        found = run(
            model, x, residual, norm, packed.weights, packed.scales, bias, np.array([counted], np.int32)
        )
        as_stored, seen = unpack(packed, outputs), rounded if precision == "int8" else np.asarray
        after_norm = seen(normed(x, norm)) @ as_stored.T + bias[:outputs]
        expected = (
            after_norm,
            after_norm * 0.5 * (1 + _erf(after_norm / math.sqrt(2))),
            residual + seen(x) @ as_stored.T + bias[:outputs],
        )
        # One number of a row that rounds the other way is one step of its scale times a weight.
        allowed = 0.2 if precision == "int8" else 2e-4
        for index, y in enumerate(found):
            want = expected[index % 3][:counted]
            np.testing.assert_allclose(y[:counted], want, atol=allowed, rtol=allowed / 10)
        if precision == "int8":  # products of bytes are exact, whatever the width
            for width in range(1, len(WIDTHS)):
                np.testing.assert_allclose(found[3 * width + 2][:counted], found[2][:counted], atol=1e-4)

    equal()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("rows", [63, 64, 65, 300])
def test_many_rows_shared_by_threads_equal_one_thread_to_the_last_bit(
    precision: Precision, rows: int
) -> None:
    rng = np.random.default_rng(rows)
    x = rng.standard_normal((rows, 128)).astype(np.float32)
    norm = rng.standard_normal((2, 128)).astype(np.float32)
    packed = pack(rng.standard_normal((140, 128)).astype(np.float32), precision)
    bias = rng.standard_normal(len(packed.scales)).astype(np.float32)
    inputs = (x, norm, packed.weights, packed.scales, bias, np.array([rows], np.int32))
    alone, shared = run(shared_layers(precision), *inputs)
    np.testing.assert_array_equal(alone, shared)


@cache
def likely_logits() -> Model:
    """At all widths: exact logits of float32, then those of which only what may matter is exact."""
    inputs = [
        tensor(F32, "M", "K"),
        tensor(F32, 2, "K"),
        tensor(F32, "blocks", "words", 64, 1),
        tensor(F32, "P"),
        tensor(F32, "P"),
        tensor(DType.uint16, "blocks", "halves", 64, 2),
        tensor(F32, 1),
        tensor(F32, "N"),
        tensor(I32, 1),
    ]

    def build(*values: Any) -> list[TensorValue]:
        x, norm, weights, scales, bias, _, _, always, counts = values
        y, found = tensor(F32, "M", always.shape[0]), list[TensorValue]()
        for width in WIDTHS:
            layer = [x, norm, weights, scales, bias, counts]
            found += call("captiond_norm_project", layer, y, WIDTH=width, HANDS=1)
            found += call("captiond_likely_logits", list(values), y, WIDTH=width)
        return found

    return compiled("likely_logits", inputs, build)


@MANY
@given(
    st.integers(1, 9),
    st.integers(1, 400),
    st.sampled_from([0.01, 1.0, 30.0]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_the_likeliest_token_is_that_of_exact_logits(
    rows: int, outputs: int, scale: float, alike: bool, seed: int
) -> None:
    """Also where many rows of weights are nearly the same, so that their rounded logits mislead."""
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((outputs, 128)).astype(np.float32)
    if alike:
        matrix = matrix[:1] + np.float32(1e-4) * matrix
    matrix *= np.float32(scale / 11)
    x, norm = rng.standard_normal((rows, 128)).astype(np.float32), np.ones((2, 128), np.float32)
    always = np.where(rng.random(outputs) < 0.1, np.float32(-1e30), np.float32(0)).astype(np.float32)
    packed, halves = pack(matrix, "float32"), pack(matrix, "bfloat16")
    error = np.linalg.norm(matrix - unpack(halves, outputs), axis=1).max()
    bias = np.zeros_like(packed.scales)
    inputs = (x, norm, packed.weights, packed.scales, bias, halves.weights, np.float32([error]), always)
    found = run(likely_logits(), *inputs, np.array([rows], np.int32))
    reach = np.linalg.norm(normed(x, norm), axis=1, keepdims=True) * error + 1e-3
    for exact, likely in zip(found[::2], found[1::2], strict=True):
        assert np.array_equal((exact + always).argmax(1), (likely + always).argmax(1))
        assert (np.abs(exact - likely) <= reach).all()
        best = (exact + always).argmax(1)[:, None]
        assert np.array_equal(np.take_along_axis(exact, best, 1), np.take_along_axis(likely, best, 1))


# --- attention ---------------------------------------------------------------------------------------

HEADS, CONTEXT = 2, 12
WATCHED = (-1, 1)  # of three places for attention the second is the second head's


@cache
def attention() -> Model:
    """Self-attention, then cross-attention over float32 and bfloat16, at all widths."""
    cache_type = buffer(F32, "B", HEADS, CONTEXT, 64)
    inputs = [
        tensor(F32, "R", 3 * HEADS * 64),
        tensor(F32, "R", HEADS * 64),
        tensor(I32, "R", 4),
        tensor(I32, 1),
        tensor(I32, "B", 2),
        tensor(I32, HEADS),
        buffer(F32, "B", CONTEXT, 3, "S"),
        *[buffer(F32, "W", HEADS, "S", 64)] * 2,
        *[buffer(DType.bfloat16, "W", HEADS, "S", 64)] * 2,
        cache_type,
        cache_type,
    ]

    def build(
        qkv: Any, q: Any, rows: Any, counts: Any, seats: Any, watched: Any, looks: Any, *kept: Any
    ) -> list[TensorValue]:
        y, found = tensor(F32, "R", HEADS * 64), []
        for width in WIDTHS:
            found += call("captiond_self_attention", [qkv, rows, counts, *kept[4:]], y, WIDTH=width)
            for cross in (kept[2:4], kept[:2]):
                values = [q, rows, counts, seats, watched, *cross, looks]
                found += call("captiond_cross_attention", values, y, WIDTH=width, HANDS=1)
        return found

    return compiled("attention", inputs, build)


def attended(q: Float32Array, k: Float32Array, v: Float32Array) -> Float32Array:
    """[H, 64] over [H, T, 64]."""
    return np.einsum("ht,htd->hd", shares_of(q, k), v).astype(np.float32)


def shares_of(q: Float32Array, k: Float32Array) -> Float32Array:
    """Softmax over T, [H, T]."""
    scores = np.einsum("hd,htd->ht", q, k) / 8
    weights = np.exp(scores - scores.max(1, keepdims=True))
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)


@MANY
@given(st.data())
def test_rows_attend_to_their_own_slot_and_to_what_came_before(data: st.DataObject) -> None:
    """Rows of several slots, some with a past, in one call; the cache is written at their positions alone."""
    slots = data.draw(st.integers(1, 4))
    past = [data.draw(st.integers(0, CONTEXT - 3)) for _ in range(slots)]
    news = [data.draw(st.integers(0, 3)) for _ in range(slots)]
    news[0] = max(news[0], 1)
    room, empty = data.draw(st.integers(1, 70)), data.draw(st.integers(0, 2))
    places = data.draw(st.integers(1, 3))
    seats = [(data.draw(st.integers(0, places - 1)), data.draw(st.integers(1, room))) for _ in range(slots)]
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    rows = [(0, s, past[s] + n, 1) for s in range(slots) for n in range(news[s])]
    count = len(rows)
    table = np.array([*rows, *[(-1, -1, -1, -1)] * empty], np.int32)

    def random(*shape: int) -> Float32Array:
        return rng.standard_normal(shape).astype(np.float32)

    qkv, q = random(count + empty, 3 * HEADS * 64), random(count + empty, HEADS * 64)
    cross = [random(places, HEADS, room, 64) for _ in range(2)]
    halves = [(array.view(np.uint32) >> 16 << 16).view(np.float32) for array in cross]
    as_halves = [
        Buffer.from_numpy((array.view(np.uint32) >> 16).astype(np.uint16)).view(DType.bfloat16)
        for array in cross
    ]
    before = [random(slots, HEADS, CONTEXT, 64) for _ in range(2)]
    caches = [Buffer.from_numpy(array.copy()) for array in before]
    looks = Buffer.from_numpy(np.full((slots, CONTEXT, 3, room), -1, np.float32))
    watched = np.array(WATCHED, np.int32)
    heard_by = (np.array(seats, np.int32), watched, looks, *map(Buffer.from_numpy, cross), *as_halves)
    found = run(attention(), qkv, q, table, np.array([count], np.int32), *heard_by, *caches)
    after = [array.copy() for array in before]
    for r, (_, slot, position, _) in enumerate(rows):
        for kept, part in zip(after, (1, 2), strict=True):
            kept[slot, :, position] = qkv[r].reshape(3, HEADS, 64)[part]
    for kept, expected in zip(caches, after, strict=True):
        np.testing.assert_array_equal(kept.to_numpy(), expected)
    for r, (_, slot, position, _) in enumerate(rows):
        heard = attended(qkv[r].reshape(3, HEADS, 64)[0], *(a[slot, :, : position + 1] for a in after))
        seat, positions = seats[slot]
        full = attended(q[r].reshape(HEADS, 64), *(a[seat, :, :positions] for a in cross))
        half = attended(q[r].reshape(HEADS, 64), *(a[seat, :, :positions] for a in halves))
        for index, y in enumerate(found):
            expected, allowed = ((heard, 1e-4), (half, 1e-4), (full, 1e-4))[index % 3]
            np.testing.assert_allclose(y[r], expected.reshape(-1), atol=allowed)
        shares = shares_of(q[r].reshape(HEADS, 64), cross[0][seat, :, :positions])[1]
        kept_shares = looks.to_numpy()[slot, position]
        np.testing.assert_allclose(kept_shares[1, :positions], shares, atol=1e-5)
        assert (kept_shares[[0, 2]] == -1).all()
        assert (kept_shares[1, positions:] == -1).all()
    written = {(slot, position) for _, slot, position, _ in rows}
    untouched = [at for at in np.ndindex(slots, CONTEXT) if at not in written]
    assert all((looks.to_numpy()[at] == -1).all() for at in untouched)


@cache
def encoder_attention() -> Model:
    """At all widths, queries in one part and in three; where the processor can, rounded to bfloat16."""
    halves = [(16, 3, 1)] if has_halves(processor()) else []

    def build(qkv: Any) -> list[TensorValue]:
        y = tensor(F32, "B", "S", HEADS * 64)
        return [
            value
            for width, parts, half in [*((width, parts, 0) for width in WIDTHS for parts in (1, 3)), *halves]
            for value in call("captiond_encoder_attention", [qkv], y, WIDTH=width, PARTS=parts, HALVES=half)
        ]

    return compiled("encoder_attention", [tensor(F32, "B", "S", 3 * HEADS * 64)], build)


@MANY
@given(st.integers(1, 3), st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_positions_attend_to_all_of_their_window(windows: int, positions: int, seed: int) -> None:
    shape = (windows, positions, 3, HEADS, 64)
    qkv = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    found = run(encoder_attention(), qkv.reshape(windows, positions, -1))
    q, k, v = qkv.astype(np.float64).transpose(2, 0, 3, 1, 4)
    scores = q @ k.swapaxes(2, 3) / 8
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    expected = (weights / weights.sum(-1, keepdims=True) @ v).swapaxes(1, 2)
    for number, y in enumerate(found):
        allowed = 1e-5 if number < 2 * len(WIDTHS) else 6e-2
        np.testing.assert_allclose(y, expected.reshape(windows, positions, -1), atol=allowed)


@pytest.mark.parametrize("row", [(0, 1, 0, 1), (0, -1, 0, 1), (0, 0, CONTEXT, 1), (0, 0, -1, 1)])
def test_a_row_outside_the_cache_is_refused_before_anything_is_written(row: tuple[int, ...]) -> None:
    kept = [Buffer.from_numpy(np.zeros((1, HEADS, CONTEXT, 64), np.float32)) for _ in range(2)]
    cross = [Buffer.from_numpy(np.ones((1, HEADS, 5, 64), np.float32)) for _ in range(2)]
    cross += [Buffer.zeros((1, HEADS, 5, 64), DType.bfloat16) for _ in range(2)]
    qkv, q = np.ones((1, 3 * HEADS * 64), np.float32), np.ones((1, HEADS * 64), np.float32)
    looks = Buffer.from_numpy(np.zeros((1, CONTEXT, 3, 5), np.float32))
    with pytest.raises((ValueError, RuntimeError), match="outside the cache"):
        attention().execute(
            qkv,
            q,
            np.array([row], np.int32),
            np.array([1], np.int32),
            np.array([[0, 5]], np.int32),
            np.array(WATCHED, np.int32),
            looks,
            *cross,
            *kept,
        )
    assert not any(buffer.to_numpy().any() for buffer in kept)


# --- tokens ------------------------------------------------------------------------------------------


@cache
def choosing() -> Model:
    inputs = [
        tensor(F32, "M", "V"),
        tensor(F32, "V"),
        tensor(F32, "V"),
        tensor(I32, 1),
        tensor(I32, "B", 4),
        tensor(I32, 3),
        tensor(F32, "B"),
        buffer(I64, "B", CONTEXT),
        buffer(F32, "B", CONTEXT),
    ]

    def build(*values: Any) -> list[TensorValue]:
        types = (tensor(I32, "B", 4), tensor(I32, 3), tensor(F32, "B"))
        return [
            value
            for width in WIDTHS
            for first in (0, 1)
            for value in call("captiond_choose", values, *types, WIDTH=width, FIRST=first)
        ]

    return compiled("choosing", inputs, build)


@MANY
@given(st.data())
def test_the_likeliest_allowed_token_is_chosen(data: st.DataObject) -> None:
    slots, vocabulary = data.draw(st.integers(1, 4)), data.draw(st.integers(2, 70))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    logits = rng.choice(np.arange(-4, 4), (slots, vocabulary)).astype(np.float32)  # ties on purpose
    always, first = (np.where(rng.random(vocabulary) < 0.2, -1e30, 0).astype(np.float32) for _ in range(2))
    always[0] = first[0] = 0
    end, step = int(rng.integers(vocabulary)), int(rng.integers(CONTEXT))
    order = rng.permutation(slots)
    rows = np.array([(5, slot, slot + 3, 1) for slot in order], np.int32)
    most = data.draw(st.sampled_from((step + 1, step + 2)))
    sums = rng.standard_normal(slots).astype(np.float32)
    written = [Buffer.from_numpy(np.zeros((slots, CONTEXT), kind)) for kind in (np.int64, np.float32)]
    found = run(
        choosing(),
        *(logits, always, first, np.array([end], np.int32), rows),
        *(np.array([slots, step, most], np.int32), sums, *written),
    )
    for index in range(2 * len(WIDTHS)):
        masked = (logits + always + (first if index % 2 else 0)).astype(np.float64)
        tokens = masked.argmax(1)  # the first of equals
        log_probabilities = -np.log(np.exp(masked - masked.max(1, keepdims=True)).sum(1))
        next_rows, counts, added = found[3 * index : 3 * index + 3]
        going_on = [(t, s, s + 4, 1) for t, s in zip(tokens, order, strict=True) if t != end]
        assert counts.tolist() == [len(going_on) if step + 1 < most else 0, step + 1, most]
        assert next_rows[: len(going_on)].tolist() == [list(row) for row in going_on]
        expected = sums.copy()
        expected[order] += log_probabilities
        np.testing.assert_allclose(added, expected, atol=1e-5)
    np.testing.assert_array_equal(written[0].to_numpy()[order, step], tokens)
    np.testing.assert_allclose(written[1].to_numpy()[order, step], log_probabilities, atol=1e-5)


# --- what the host makes and refuses -----------------------------------------------------------------


def test_prompts_become_rows() -> None:
    rows = row_decoder.prompt_rows([(7,), (3, 7, 9)], [0, 1], 12)
    assert rows.tolist() == [[7, 0, 0, 3], [3, 1, 0, 0], [7, 1, 1, 2], [9, 1, 2, 1]]


@pytest.mark.parametrize(
    ("described", "expected"),
    [
        ("x86_64|flags : fma avx2 avx512f avx512bw avx512vl avx512_vnni", 16),
        ("x86_64|flags : fma avx2 avx512f avx512bw avx512vl", 8),
        ("x86_64|flags : fma avx2", 8),
        ("x86_64|flags : sse4_2", 4),
        ("aarch64|Features : asimd", 4),
        ("arm64", 4),
    ],
)
def test_lanes_are_those_that_the_processor_has(described: str, expected: int) -> None:
    assert lanes(described) == expected


def test_the_decoder_uses_every_tensor_of_its_part() -> None:
    tensors = files.small_tensors()
    _, bank = row_decoder.build(files.SMALL, tensors, "int8", Kernels(WIDEST, 1))
    wanted = {name for name in tensors if name.startswith("decoder.")}
    assert bank.used == {
        name for name in wanted if ".cross_attn.key" not in name and ".cross_attn.value" not in name
    }
