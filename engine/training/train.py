"""Step 4 and 6, `python -m engine.training.train PHASE`: one phase of `recipe.toml`, from one checkpoint to
the next.

A phase's length is told in hours of audio, so the same seed and phase see the same windows on any machine.
Weights are averaged all along (the average is what is exported). SIGINT or SIGTERM: the checkpoint is
written, then it ends.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import click
import msgspec
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from engine.training.examples import IGNORED, Batch, Examples
from engine.training.initial import keep_positions_clean, new_model
from engine.training.mixing import Mix
from engine.training.model import Checkpoint, Size, Whisper
from engine.training.muon import Muon
from engine.training.text import Vocabulary

FRAME_S = 0.02
ATTENDED_WITHIN_S = 0.3
FRAMES_A_SECOND = 100
FRAMES_A_LETTER = 25  # at the least: a window in which little is said does not outweigh the others
WARM_UP_STEPS = 150
CLIP_NORM = 2.0
SAY_EVERY_S, SAVE_EVERY_S = 30.0, 240.0
QUEUED_BATCHES = 6


class Phase(msgspec.Struct, forbid_unknown_fields=True):
    """`rate` is AdamW's, `matrix_rate` Muon's; from `hold` of the phase on both fall in a line to nothing."""

    hours: float
    rate: float = 1.4e-3
    matrix_rate: float = 0.02
    hold: float = 0.3
    frames: int = 7000
    encoder_only: bool = False
    new_decoder: bool = False
    ctc: float = 0.5
    guided: float = 0.0
    smoothing: float = 0.03
    mix: dict[str, Any] = msgspec.field(default_factory=dict)

    def mixture(self) -> Mix:
        return msgspec.convert(self.mix, Mix)

    def share_of_rate(self, passed: float) -> float:
        """1 while held, then down to 0; `passed` from 0 to 1."""
        return 1.0 if passed < self.hold else max(0.0, (1 - passed) / max(1e-9, 1 - self.hold))


class Recipe(msgspec.Struct, forbid_unknown_fields=True):
    size: Size
    seed: int
    phases: dict[str, Phase]

    @classmethod
    def read(cls, path: Path) -> Recipe:
        return msgspec.toml.decode(path.read_bytes(), type=cls)


def load_windows(queue: mp.Queue, folder: Path, tokens: list[int], phase: Phase, seed: int) -> None:
    """A process that makes batches while the model learns."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    for batch in Examples(folder, Vocabulary(tokens), seed).batches(phase.mixture(), phase.frames):
        queue.put(tuple(batch))


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
        self._adam.zero_grad(set_to_none=True)
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


@dataclass
class Losses:
    text: Tensor
    letters: Tensor
    attention: Tensor
    right: float

    def sum(self, phase: Phase, passed: float) -> Tensor:
        guided = phase.guided * min(1.0, 2 * (1 - passed))
        return self.text + phase.ctc * self.letters + guided * self.attention


def losses(model: Whisper, batch: list[Tensor], phase: Phase) -> Losses:
    mel, inputs, labels, times, spelled, counts = batch
    nothing = torch.zeros((), device=mel.device)
    with torch.autocast(mel.device.type, torch.bfloat16):
        heard = model.encoder(mel.float())
        spoken = model.ctc(heard).float().log_softmax(dim=-1).transpose(0, 1)
        attended: list[Tensor] | None = [] if phase.guided else None
        logits = None if phase.encoder_only else model.logits(model.decoder(inputs, heard, attended))
    frames = torch.full((len(counts),), len(spoken))
    ctc = F.ctc_loss(spoken, spelled, frames, counts.cpu(), reduction="sum", zero_infinity=True)
    ctc = ctc / max(int(counts.sum()), spoken.shape[0] * spoken.shape[1] // FRAMES_A_LETTER)
    if logits is None:
        return Losses(nothing, ctc, nothing, 0.0)
    counted = labels != IGNORED
    text = F.cross_entropy(logits[counted], labels[counted], label_smoothing=phase.smoothing)
    right = float((logits[counted].argmax(-1) == labels[counted]).float().mean())
    guided = sum((off_time(a, times) for a in attended), nothing) / 2 if attended else nothing
    return Losses(text, ctc, guided, right)


def off_time(attended: Tensor, times: Tensor) -> Tensor:
    """Guided attention: minus the log of what falls within `ATTENDED_WITHIN_S` of the token that is asked
    for.
    """
    timed = times >= 0
    if not bool(timed.any()):
        return torch.zeros((), device=times.device)
    frame = torch.arange(attended.shape[2], device=times.device) * FRAME_S
    near = ((frame[None, None] - times[..., None]).abs() < ATTENDED_WITHIN_S).float()
    return -((attended * near).sum(-1)[timed] + 1e-4).log().mean()


class Run:
    def __init__(self, recipe: Recipe, phase: Phase, start: Checkpoint | None, device: str) -> None:
        self.phase, self.device = phase, device
        vocabulary = Vocabulary(start.tokens if start else None)
        self.tokens = vocabulary.tokens
        model = start.model() if start else new_model(recipe.size, len(self.tokens), recipe.seed)
        if phase.new_decoder:
            model.decoder.load_state_dict(
                new_model(model.size, len(self.tokens), recipe.seed).decoder.state_dict()
            )
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
            step += 1
            self._average(step)
            heard += batch.mel.size / 80 / FRAMES_A_SECOND
            told.append(
                (
                    *(float(p.detach()) for p in (parts.text, parts.letters, parts.attention)),
                    parts.right,
                    norm,
                )
            )
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
        torch._foreach_lerp_(
            list(self.averaged.values()), [p.detach() for p in self.model.parameters()], 1 - kept
        )

    def _checkpoint(self, step: int, heard: float) -> Checkpoint:
        weights = {n: t.detach().cpu().clone() for n, t in self.model.state_dict().items()}
        averaged = {n: self.averaged[n].cpu() if n in self.averaged else t for n, t in weights.items()}
        return Checkpoint(
            self.model.size, self.tokens, weights, averaged, self.steps + step, self.audio_seconds + heard
        )

    def _say(
        self, told: list[tuple[float, ...]], step: int, heard: float, share: float, seconds: float
    ) -> None:
        text, letters, attention, right, norm = (
            sum(column) / len(told) for column in zip(*told, strict=True)
        )
        print(
            f"step {step}  {heard / 3600:.2f} of {self.phase.hours:.2f} h  text {text:.3f} right {right:.3f} "
            f"letters {letters:.3f} attention {attention:.2f} norm {norm:.2f} rate {share:.2f} "
            f"{seconds / len(told):.3f} s a step",
            flush=True,
        )


def queued(queue: mp.Queue) -> Iterator[Batch]:
    while True:
        yield Batch(*queue.get())


@click.command()
@click.argument("name", metavar="PHASE")
@click.option(
    "--recipe",
    "recipe_file",
    type=click.Path(path_type=Path),
    default=Path(__file__).with_name("recipe.toml"),
)
@click.option("--folder", type=click.Path(path_type=Path), default=Path("training-data"), show_default=True)
@click.option("--start", type=click.Path(path_type=Path, exists=True), help="The checkpoint to go on from.")
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
    mp.set_sharing_strategy("file_system")
    recipe = Recipe.read(recipe_file)
    if name not in recipe.phases:
        raise click.BadParameter(f"{recipe_file.name} has {', '.join(recipe.phases)}", param_hint="PHASE")
    phase = recipe.phases[name]
    phase.hours = hours or phase.hours
    run = Run(recipe, phase, Checkpoint.load(start) if start else None, device)
    signal.signal(signal.SIGTERM, run.stop)
    signal.signal(signal.SIGINT, run.stop)
    queue: mp.Queue = mp.get_context("spawn").Queue(QUEUED_BATCHES)
    workers = [
        mp.get_context("spawn").Process(
            target=load_windows,
            args=(queue, folder, run.tokens, phase, recipe.seed + run.steps + i),
            daemon=True,
        )
        for i in range(loaders)
    ]
    for worker in workers:
        worker.start()
    try:
        run.learn(queued(queue), out, minutes)
    finally:
        for worker in workers:
            worker.terminate()


if __name__ == "__main__":
    main()
