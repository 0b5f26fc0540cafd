"""Steps 4 and 6, `python -m engine.training.train PHASE`: one phase of `recipe.toml`, from one checkpoint to
the next.

A phase's length is told in hours of audio: with as many loaders and the same store, a seed sees the same
windows. Weights are averaged all along, and the average is what a checkpoint holds. SIGINT or SIGTERM: the
checkpoint is written, then it ends; a phase that was ended is begun again, not gone on with.
"""

from __future__ import annotations

import itertools
import math
import multiprocessing as mp
import os
import signal
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import Empty
from types import FrameType
from typing import Any

import click
import torch
from torch import Tensor

from engine.training.examples import Batch, Examples
from engine.training.initial import keep_constant, keep_positions_clean, new_model
from engine.training.losses import losses
from engine.training.model import Checkpoint, Whisper
from engine.training.muon import Muon
from engine.training.phases import Phase, Recipe
from engine.training.text import Vocabulary

FRAMES_A_SECOND = 100
WARM_UP_STEPS = 150
CLIP_NORM = 2.0
SAY_EVERY_S, SAVE_EVERY_S = 30.0, 240.0
QUEUED_BATCHES = 6
RECIPE = Path(__file__).with_name("recipe.toml")
Loader = tuple[BaseProcess, Any]  # a process, and the queue of the batches that it makes


class Optimiser:
    """Muon for the matrices of the blocks, AdamW for everything else; both rates move together."""

    def __init__(self, model: Whisper, phase: Phase) -> None:
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        matrices = [p for n, p in named if p.dim() == 2 and "blocks" in n]
        convolutions = [p for n, p in named if p.dim() == 3]
        tables = [p for n, p in named if p.dim() == 2 and "blocks" not in n]
        vectors = [p for n, p in named if p.dim() < 2]
        groups = [(tables, 0.05, 1.0), (vectors, 0.0, 1.0), (convolutions, 0.1, 0.4)]
        self._shares = [share for _, _, share in groups]
        self._muon, self._phase, self.parameters = Muon(matrices), phase, [p for _, p in named]
        self._adam = torch.optim.AdamW(
            [{"params": params, "weight_decay": decay} for params, decay, _ in groups],
            lr=phase.rate,
            betas=(0.9, 0.98),
            eps=1e-7,
            fused=True,
        )

    def step(self, loss: Tensor, share: float) -> float:
        """Answers the gradient's norm; a gradient that is not finite is left out."""
        for p in self.parameters:
            p.grad = None
        loss.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, CLIP_NORM))
        if math.isfinite(norm):
            for group, own in zip(self._adam.param_groups, self._shares, strict=True):
                group["lr"] = self._phase.rate * share * own
            self._adam.step()
            self._muon.step(self._phase.matrix_rate * share)
        return norm


class Run:
    """A model on its way through one phase."""

    def __init__(self, recipe: Recipe, phase: Phase, start: Checkpoint | None, device: str) -> None:
        self.phase, self.device = phase, device
        self.tokens = start.tokens if start else Vocabulary().tokens
        model = start.model() if start else new_model(recipe.size, len(self.tokens), recipe.seed)
        model.decoder.requires_grad_(not phase.encoder_only)
        self.model = model.to(device).train()
        self.optimiser = Optimiser(model, phase)
        self.averaged = {n: p.detach().clone() for n, p in model.named_parameters()}
        self.steps, self.audio_seconds = (start.steps, start.audio_seconds) if start else (0, 0.0)
        self.stopped = False

    def stop(self, number: int, frame: FrameType | None) -> None:
        self.stopped = True

    def learn(self, batches: Iterator[Batch], out: Path, minutes: float = math.inf) -> None:
        """Ends, and has the rate fall, by hours of audio or by the clock, whichever is over first."""
        said = saved = began = time.monotonic()
        told: list[tuple[float, ...]] = []
        heard, step = 0.0, 0
        for batch in batches:
            passed = max(heard / (self.phase.hours * 3600), (time.monotonic() - began) / (60 * minutes))
            if passed >= 1 or self.stopped:
                break
            on_device = [torch.from_numpy(a).to(self.device) for a in batch]
            parts = losses(self.model, on_device, self.phase)
            share = self.phase.share_of_rate(passed) * min(1.0, (step + 1) / WARM_UP_STEPS)
            norm = self.optimiser.step(parts.sum(self.phase, passed), share)
            keep_positions_clean(self.model)
            keep_constant(self.model)
            step += 1
            self._average(step)
            heard += batch.mel.size / 80 / FRAMES_A_SECOND
            means = [float(p.detach()) for p in (parts.text, parts.letters, parts.attention)]
            told.append((*means, parts.right, norm))
            now = time.monotonic()
            if now - said > SAY_EVERY_S:
                self._say(told, step, heard, share, now - said)
                said, told = now, []
            if now - saved > SAVE_EVERY_S:
                self._checkpoint(step, heard).save(out)
                saved = now
        self._checkpoint(step, heard).save(out)

    def _average(self, step: int) -> None:
        kept = min(0.998, (step + 1) / (step + 20))
        newest = [p.detach() for p in self.model.parameters()]
        torch._foreach_lerp_(list(self.averaged.values()), newest, 1 - kept)

    def _checkpoint(self, step: int, heard: float) -> Checkpoint:
        fixed = {n: t for n, t in self.model.state_dict().items() if n not in self.averaged}
        averaged = {n: t.detach().cpu().clone() for n, t in {**fixed, **self.averaged}.items()}
        steps, seconds = self.steps + step, self.audio_seconds + heard
        return Checkpoint(self.model.size, self.tokens, averaged, steps, seconds)

    def _say(
        self, told: list[tuple[float, ...]], step: int, heard: float, share: float, seconds: float
    ) -> None:
        text, letters, attention, right, norm = (sum(c) / len(told) for c in zip(*told, strict=True))
        print(
            f"step {step}  {heard / 3600:.2f} of {self.phase.hours:.2f} h  text {text:.3f} right {right:.3f} "
            f"letters {letters:.3f} attention {attention:.2f} norm {norm:.2f} rate {share:.2f} "
            f"{seconds / len(told):.3f} s a step",
            flush=True,
        )


def make_batches(queue: Any, folder: Path, tokens: list[int], phase: Phase, seed: int) -> None:
    """A process that makes batches while the model learns."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    for batch in Examples(folder, Vocabulary(tokens), seed).batches(phase.mix, phase.frames):
        queue.put(tuple(batch))


def started(run: Run, folder: Path, seed: int, count: int) -> list[Loader]:
    context, loaders = mp.get_context("spawn"), list[Loader]()
    for i in range(count):
        queue = context.Queue(QUEUED_BATCHES)
        given = (queue, folder, run.tokens, run.phase, seed + i)
        process = context.Process(target=make_batches, args=given, daemon=True)
        process.start()
        loaders.append((process, queue))
    return loaders


def in_turn(loaders: list[Loader], run: Run) -> Iterator[Batch]:
    """One batch of each loader after the other until the run is stopped; a loader that ended ends it."""
    for process, queue in itertools.cycle(loaders):
        while True:
            if run.stopped:
                return
            try:
                yield Batch(*queue.get(timeout=1.0))
                break
            except Empty:
                if not process.is_alive():
                    raise click.ClickException("a process that makes batches has ended: see above") from None


@click.command()
@click.argument("name", metavar="PHASE")
@click.option("--recipe", "recipe_file", type=click.Path(path_type=Path), default=RECIPE)
@click.option("--folder", type=click.Path(path_type=Path), default=Path("training-data"), show_default=True)
@click.option("--start", type=click.Path(path_type=Path, exists=True), help="The checkpoint to begin with.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The checkpoint to write.")
@click.option("--device", default="cuda" if torch.cuda.is_available() else "cpu", show_default=True)
@click.option("--loaders", default=1, show_default=True, help="Processes that make batches.")
@click.option("--threads", default=len(os.sched_getaffinity(0)), show_default=True)
@click.option("--hours", type=float, help="Of audio, instead of the phase's.")
@click.option("--minutes", default=math.inf, help="Of the clock: at most so many, the rate falling in time.")
def main(
    name: str, recipe_file: Path, folder: Path, start: Path | None, out: Path, device: str, loaders: int,
    threads: int, hours: float | None, minutes: float,
) -> None:  # fmt: skip
    torch.set_num_threads(threads)
    recipe = Recipe.read(recipe_file)
    if name not in recipe.phases:
        raise click.BadParameter(f"{recipe_file.name} has {', '.join(recipe.phases)}", param_hint="PHASE")
    out.parent.mkdir(parents=True, exist_ok=True)
    phase = recipe.phases[name]
    phase.hours = hours or phase.hours
    run = Run(recipe, phase, Checkpoint.load(start) if start else None, device)
    signal.signal(signal.SIGTERM, run.stop)
    signal.signal(signal.SIGINT, run.stop)
    making = started(run, folder, recipe.seed + run.steps, loaders)
    try:
        run.learn(in_turn(making, run), out, minutes)
    finally:
        for process, _ in making:
            process.terminate()


if __name__ == "__main__":
    main()
