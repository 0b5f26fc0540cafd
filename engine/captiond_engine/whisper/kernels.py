"""This package's kernels as operations of a graph: linear layers over rows, and any other one by its name.

Takes and gives MAX graph values on the CPU. What each kernel computes stands in ``kernels/*.mojo``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from max.dtype import DType
from max.graph import BufferValue, Dim, TensorType, TensorValue, Weight, ops

import captiond_engine
from captiond_engine.whisper import layers
from captiond_engine.whisper.layers import CPU, F32
from captiond_engine.whisper.packed_weights import PackedLinear

KERNELS = Path(str(captiond_engine.__file__)).parent / "kernels"


def kernel_source() -> bytes:
    """The text of all kernels, for the key of a stored graph."""
    return b"".join(path.read_bytes() for path in sorted(KERNELS.glob("*.mojo")))


@dataclass(frozen=True, slots=True)
class Kernels:
    """``lanes``: width of the kernels' vectors (``cpu.lanes``); ``hands``: threads that share large work;
    ``halves``: the processor multiplies bfloat16 (``cpu.has_halves``)."""

    lanes: int
    hands: int
    halves: bool = False

    def project(
        self,
        x: TensorValue,
        norm: Weight,
        layer: PackedLinear,
        counts: TensorValue,
        outputs: int,
        *,
        after: str = "",
    ) -> TensorValue:
        """A linear layer of ``norm(x)``, rows [R, K] to [R, N]; ``after``: "" or "_gelu"."""
        values = [x, norm, *layer.values, counts]
        [y] = self.call(f"captiond_norm_project{after}", values, (F32, x.shape[0], outputs))
        return y

    def add(self, x: TensorValue, y: TensorValue, layer: PackedLinear, counts: TensorValue) -> TensorValue:
        """``x`` [R, N] plus a linear layer of ``y`` [R, K]."""
        [total] = self.call("captiond_project_add", [y, x, *layer.values, counts], (F32, *x.shape))
        return total

    def call(
        self,
        name: str,
        values: Sequence[TensorValue | BufferValue],
        *shapes: tuple[DType | Dim | int, ...],
        **parameters: int,
    ) -> list[TensorValue]:
        """One kernel; ``shapes``: type and dimensions of each of its results."""
        types = [TensorType(dtype, shape, CPU) for dtype, *shape in shapes]
        call = ops.inplace_custom if any(isinstance(v, BufferValue) for v in values) else ops.custom
        if name != "captiond_embed":
            parameters["WIDTH"] = self.lanes
        if "project" in name or "cross" in name:
            parameters["HANDS"] = self.hands
        found = call(name, device=CPU, values=values, out_types=types, parameters=parameters)
        return [layers.tensor_of(value) for value in found]
