"""After step 6, `python -m engine.training.average FIRST SECOND`: the weights between two checkpoints of one
line.

What SECOND learnt on from FIRST it partly paid for with what FIRST could: between the two lie weights that
lose less of it (Wortsman et al., Robust fine-tuning of zero-shot models, 2022).
"""

from __future__ import annotations

from pathlib import Path

import click
import torch

from engine.training.model import Checkpoint


def between(first: Checkpoint, second: Checkpoint, share: float) -> Checkpoint:
    """``share`` of ``second`` and the rest of ``first``. Raises ValueError where they do not fit together."""
    if (first.size, first.tokens) != (second.size, second.tokens):
        raise ValueError("these two differ in size or vocabulary: take checkpoints of one line")
    weights = {n: torch.lerp(first.averaged[n].float(), t.float(), share) for n, t in second.averaged.items()}
    return Checkpoint(second.size, second.tokens, weights, second.steps, second.audio_seconds)


@click.command()
@click.argument("first", type=click.Path(path_type=Path, exists=True))
@click.argument("second", type=click.Path(path_type=Path, exists=True))
@click.option("--share", type=click.FloatRange(0, 1), default=0.75, show_default=True, help="Of the second.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The checkpoint to write.")
def main(first: Path, second: Path, share: float, out: Path) -> None:
    try:
        between(Checkpoint.load(first), Checkpoint.load(second), share).save(out)
    except ValueError as refused:
        raise click.ClickException(str(refused)) from refused


if __name__ == "__main__":
    main()
