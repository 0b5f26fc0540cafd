"""Float32 on a device that multiplies eleven bits: products in parts are exact, and compute the same here."""

from __future__ import annotations

import numpy as np
import pytest
from captiond_engine.types import Float32Array
from captiond_engine.whisper import layers
from captiond_engine.whisper.layers import CPU, F32, WeightBank
from captiond_engine.whisper.packed import bfloat16_bits
from max._mlir_context import ensure_default_mlir_context
from max.driver import CPU as PROCESSOR
from max.driver import Buffer
from max.engine import InferenceSession
from max.graph import Graph, TensorType

ROWS, INPUTS, OUTPUTS = 5, 256, 96
ROUNDING = 2.0**-20  # of each factor, at most


def values(seed: int, *shape: int) -> Float32Array:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def as_tf32(array: Float32Array) -> Float32Array:
    """Rounded to nearest, ties to even: what the device makes of a factor (PTX ISA, cvt.rn.tf32.f32 aside,
    hardware may also cut; parts that fit are the same either way)."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & np.uint32(0xFFFFE000)).view(np.float32)


def parts(array: Float32Array) -> list[Float32Array]:
    """As ``layers.halves``, by NumPy."""
    high = (bfloat16_bits(array).astype(np.uint32) << 16).view(np.float32)
    return [high, array - high]


def multiplied(a: list[Float32Array], b: list[Float32Array]) -> Float32Array:
    """Products of all parts on such a device, summed without error."""
    return sum(as_tf32(x).astype(np.float64) @ as_tf32(y).astype(np.float64) for x in a for y in b)


def test_parts_of_a_product_keep_what_one_product_loses() -> None:
    x, w = values(1, ROWS, INPUTS), values(2, INPUTS, OUTPUTS)
    exact = x.astype(np.float64) @ w.astype(np.float64)
    scale = np.abs(x).astype(np.float64) @ np.abs(w).astype(np.float64)
    cut = layers.eleven_bits(w)
    by_weight = multiplied(parts(x), [cut, w - cut])
    by_both = multiplied(parts(x), parts(w))
    for made in (by_weight, by_both):
        assert (np.abs(made - exact) / scale).max() < 2 * ROUNDING
    assert (np.abs(multiplied([x], [w]) - exact) / scale).max() > 10 * ROUNDING


def test_what_is_cut_is_what_the_device_holds() -> None:
    w = values(3, 1000)
    np.testing.assert_array_equal(as_tf32(layers.eleven_bits(w)), layers.eleven_bits(w))
    assert np.abs(w - layers.eleven_bits(w)).max() <= np.abs(w).max() * 2.0**-10


@pytest.mark.slow
def test_graphs_in_parts_compute_the_same() -> None:
    """Linear layer and attention with split products, on a processor, against NumPy in float64."""
    bank = WeightBank({"l.weight": values(4, OUTPUTS, INPUTS), "l.bias": values(5, OUTPUTS)}, CPU)
    bank.split = True
    q, k, v = (values(seed, 2, 3, 7, 64) for seed in (6, 7, 8))
    types = [TensorType(F32, (2, "T", INPUTS), CPU), *[TensorType(F32, (2, 3, "S", 64), CPU)] * 3]
    with ensure_default_mlir_context():
        with Graph("parts", input_types=types) as graph:
            tensors = [layers.tensor_of(value) for value in graph.inputs]
            graph.output(layers.linear(bank, tensors[0], "l"), layers.attend(*tensors[1:], split=True))
        session = InferenceSession(devices=[PROCESSOR()])
        model = session.init(session.compile(graph), weights_registry=bank.registry)
    x = values(9, 2, 4, INPUTS)
    made, mixed = (out.to_numpy() for out in model.execute(*map(Buffer.from_numpy, (x, q, k, v))))
    exact = x.astype(np.float64) @ bank.tensors["l.weight"].T.astype(np.float64) + bank.tensors["l.bias"]
    np.testing.assert_allclose(made, exact, atol=1e-4)
    scores = q.astype(np.float64) @ k.astype(np.float64).swapaxes(2, 3) * 64**-0.5
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    expected = shares / shares.sum(-1, keepdims=True) @ v
    np.testing.assert_allclose(mixed, expected, atol=1e-5)
