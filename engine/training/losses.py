"""What training makes small: tokens by the decoder, letters by CTC on the encoder, attention off the spoken
token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own custom)
from torch import Tensor

from engine.training.examples import IGNORED
from engine.training.model import FRAME_S, Whisper

if TYPE_CHECKING:
    from engine.training.phases import Phase

ATTENDED_WITHIN_S = 0.3
FRAMES_A_LETTER = 25  # at the least: a window in which little is said does not outweigh the others


@dataclass
class Losses:
    """Scalars; ``right``: share of the tokens that were likeliest."""

    text: Tensor
    letters: Tensor
    attention: Tensor
    right: float

    def sum(self, phase: Phase, passed: float) -> Tensor:
        """Weighted; guidance fades over the second half of the phase (``passed`` from 0 to 1)."""
        guided = phase.guided * min(1.0, 2 * (1 - passed))
        return self.text + phase.ctc * self.letters + guided * self.attention


def losses(model: Whisper, batch: list[Tensor], phase: Phase) -> Losses:
    """Of a `Batch` on the model's device: mel [batch, 80, frames], inputs, labels, times [batch, n],
    letters, counts.
    """
    mel, inputs, labels, times, spelled, counts = batch
    nothing = torch.zeros((), device=mel.device)
    with torch.autocast(mel.device.type, torch.bfloat16):
        heard = model.encoder(mel.float())
        spoken = model.ctc(heard).float().log_softmax(dim=-1).transpose(0, 1)
        attended: list[Tensor] | None = [] if phase.guided else None
        logits = None if phase.encoder_only else model.logits(model.decoder(inputs, heard, attended))
    frames = torch.full((len(counts),), len(spoken))
    ctc = F.ctc_loss(spoken, spelled, frames, counts.cpu(), reduction="sum", zero_infinity=True)
    ctc = ctc / max(1, int(counts.sum()), spoken.shape[0] * spoken.shape[1] // FRAMES_A_LETTER)
    if logits is None:
        return Losses(nothing, ctc, nothing, 0.0)
    counted = labels != IGNORED
    text = F.cross_entropy(logits[counted], labels[counted], label_smoothing=phase.smoothing)
    right = float((logits[counted].argmax(-1) == labels[counted]).float().mean())
    guided = sum((off_time(a, times) for a in attended), nothing) / 2 if attended else nothing
    return Losses(text, ctc, guided, right)


def off_time(attended: Tensor, times: Tensor) -> Tensor:
    """Guided attention: minus the log of what of ``attended`` [batch, n, frames] falls within
    `ATTENDED_WITHIN_S` of the token that is asked for, at ``times`` [batch, n] in seconds.
    """
    timed = times >= 0
    if not bool(timed.any()):
        return torch.zeros((), device=times.device)
    frame = torch.arange(attended.shape[2], device=times.device) * FRAME_S
    near = ((frame[None, None] - times[..., None]).abs() < ATTENDED_WITHIN_S).float()
    return -((attended * near).sum(-1)[timed] + 1e-4).log().mean()
