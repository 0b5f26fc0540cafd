"""What this machine's processor can do: what a CPU graph depends on, and how wide its vectors are."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_AVX512 = {"avx512f", "avx512bw", "avx512vl", "avx512_vnni"}
_AVX2 = {"avx2", "fma"}


def processor() -> str:
    """Architecture, model and instruction set extensions, as one line."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    features = [line for line in lines if line.startswith(("flags", "Features", "model name"))]
    return platform.machine() + "|" + "|".join(sorted(set(features)))


def lanes(described: str) -> int:
    """Lanes of 32 bits that the decoder's kernels use: 16 (AVX-512 with VNNI), 8 (AVX2) or 4 (anything)."""
    words = set(described.split())
    if words >= _AVX512:
        return 16
    return 8 if words >= _AVX2 else 4


def has_halves(described: str) -> bool:
    """Whether the processor multiplies pairs of bfloat16, in vectors of 16 lanes."""
    return lanes(described) == 16 and "avx512_bf16" in described.split()


def hands() -> int:
    """Threads that share the encoder's work: the processors that this process may run on, at most 16."""
    return min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
