"""The recipe: phases of training by name, as `recipe.toml` tells them."""

from __future__ import annotations

from pathlib import Path

import msgspec

from engine.training.mixing import Mix
from engine.training.model import Size


class Phase(msgspec.Struct, forbid_unknown_fields=True):
    """`rate` is AdamW's, `matrix_rate` Muon's; from `hold` of the phase on both fall in a line to nothing.
    `hours` and `frames` (of mel, in one batch) count padding too.
    """

    hours: float
    rate: float = 1.4e-3
    matrix_rate: float = 0.02
    hold: float = 0.3
    frames: int = 7000
    encoder_only: bool = False
    ctc: float = 0.5
    guided: float = 0.0
    smoothing: float = 0.03
    mix: Mix = Mix()

    def share_of_rate(self, passed: float) -> float:
        """1 while held, then down to 0; `passed` from 0 to 1."""
        return 1.0 if passed < self.hold else max(0.0, (1 - passed) / max(1e-9, 1 - self.hold))


class Recipe(msgspec.Struct, forbid_unknown_fields=True):
    size: Size
    seed: int
    phases: dict[str, Phase]

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """Raises `msgspec.ValidationError` for a field that is not known."""
        return msgspec.toml.decode(path.read_bytes(), type=cls)
