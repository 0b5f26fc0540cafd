"""What this machine's processor can do, and classes of processors that graphs can be compiled for.

Gives: what a CPU graph depends on, and how wide its vectors are. Knows no graph.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_AVX512 = {"avx512f", "avx512bw", "avx512vl", "avx512_vnni"}
_AVX2 = {"avx2", "fma"}
_LEVEL_3 = frozenset("avx avx2 bmi1 bmi2 f16c fma abm movbe".split())


@dataclass(frozen=True, slots=True)
class Target:
    """A class of processors: ``name`` as LLVM has it, ``flags`` as /proc/cpuinfo shows them.

    The flags are those of the x86-64 psABI's micro-architecture level of that name. The upper class asks for
    AVX512_VNNI besides, so that its kernels are as wide as the ones that ``lanes`` chooses.
    """

    name: str
    flags: frozenset[str]

    @property
    def description(self) -> str:
        """What stands for ``processor()`` of every machine of this class."""
        return f"x86_64|flags : {' '.join(sorted(self.flags))}|model name : {self.name}"

    def has(self, described: str) -> bool:
        """Whether a processor belongs to this class."""
        return described.startswith("x86_64|") and self.flags <= _features(described)


# The best first.
TARGETS = (
    Target("x86-64-v4", _LEVEL_3 | _AVX512 | {"avx512cd", "avx512dq"}),
    Target("x86-64-v3", _LEVEL_3),
)
_pretended: list[Target] = []


def pretend(target: Target) -> None:
    """From now on ``processor`` tells of ``target``, in all of this process, as MAX's own target does."""
    _pretended[:] = [target]


def processor() -> str:
    """Architecture, model and instruction set extensions, as one line."""
    return _pretended[0].description if _pretended else this_processor()


@cache
def this_processor() -> str:
    """The same, of this machine whatever is pretended."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    features = [line for line in lines if line.startswith(("flags", "Features", "model name"))]
    return platform.machine() + "|" + "|".join(sorted(set(features)))


def lanes(described: str) -> int:
    """Lanes of 32 bits that the decoder's kernels use: 16 (AVX-512 with VNNI), 8 (AVX2) or 4 (anything)."""
    features = _features(described)
    if features >= _AVX512:
        return 16
    return 8 if features >= _AVX2 else 4


def has_halves(described: str) -> bool:
    """Whether the processor multiplies pairs of bfloat16, in vectors of 16 lanes."""
    return lanes(described) == 16 and "avx512_bf16" in _features(described)


def _features(described: str) -> set[str]:
    """What every core has: some processors have cores of two kinds."""
    lines = [part.partition(":")[2].split() for part in described.split("|") if not part.startswith("model")]
    return set.intersection(*(set(words) for words in lines if words)) if any(lines) else set()
