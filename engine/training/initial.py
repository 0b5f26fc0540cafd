"""Weights to begin with, made so that positions are readable from the first step.

With hours rather than years of speech, a Whisper initialised at random never learns to attend in order. Two
things help. Twelve pairs of the encoder's sinusoids are kept clean: nothing but the sinusoid is ever written
into those dimensions of the residual (`keep_positions_clean`, after each step). And self-attention begins as
local windows: query and key read the clean pairs, the query turned by an offset of its head's own, so that
each head looks some frames back or ahead.
"""

from __future__ import annotations

import math

import torch

from engine.training.model import HEAD_DIM, Size, Whisper

CLEAN_PAIRS = range(0, 36, 3)
LOCALITY = (1.1, 1.5, 1.6, 1.7)  # how narrow the windows of each layer are
FREE_HEADS = {(2, 1), (3, 1)}  # (layer, head) that begin at random
CONSTANT, CONSTANT_STEP = 20.0, 0.05  # the row of an untrained token is then some ten long


def clean_dimensions(size: Size) -> list[int]:
    return [*CLEAN_PAIRS, *(size.state // 2 + i for i in CLEAN_PAIRS)]


@torch.no_grad()
def keep_positions_clean(model: Whisper) -> None:
    clean = clean_dimensions(model.size)
    encoder = model.encoder
    for layer in [encoder.conv2, *(m for b in encoder.blocks for m in (b.attn.out, b.mlp[2]))]:
        layer.weight[clean] = 0
        layer.bias[clean] = 0


@torch.no_grad()
def keep_constant(model: Whisper) -> None:
    """Towards Σ b/w = `CONSTANT` of the decoder's last LayerNorm, a little each step, along the shortest way.

    That sum is what every input's last state has in common, and what export.py gives untrained tokens their
    logit by: where training is left to shrink it, their row grows until rounding moves the logit.
    """
    last = model.decoder.ln
    inverse = 1 / last.weight
    missing = CONSTANT - (last.bias * inverse).sum()
    last.bias += missing.clamp(-CONSTANT_STEP, CONSTANT_STEP) / (inverse @ inverse) * inverse


def new_model(size: Size, tokens: int, seed: int = 0) -> Whisper:
    torch.manual_seed(seed)
    model = Whisper(size, tokens)
    for name, p in model.named_parameters():
        if p.dim() >= 2 and "positional" not in name and "conv" not in name:
            square = p.shape[0] == p.shape[1]
            std = 0.04 if "token_embedding" in name else size.state**-0.5 * (0.6 if square else 0.8)
            torch.nn.init.normal_(p, std=std)
        if name.endswith(("attn.out.weight", "mlp.2.weight")):
            p.data *= 0.5
        if name == "decoder.positional_embedding":
            torch.nn.init.normal_(p, std=0.02)
        if p.dim() == 1 and name.endswith("bias"):
            torch.nn.init.zeros_(p)
    torch.nn.init.constant_(model.decoder.ln.bias, CONSTANT / size.state)
    _attend_locally(model)
    return model


@torch.no_grad()
def _attend_locally(model: Whisper) -> None:
    encoder, half = model.encoder, model.size.state // 2
    encoder.conv1.weight *= 1.7
    encoder.conv2.weight *= 6.0
    keep_positions_clean(model)
    clean = clean_dimensions(model.size)
    for layer, block in enumerate(encoder.blocks):
        reach = 3.0 * (layer + 1)
        offsets = torch.linspace(-reach, reach, model.size.heads).tolist()
        query, key = block.attn.query.weight, block.attn.key.weight
        query[:, clean] = 0
        key[:, clean] = 0
        block.attn_ln.weight[clean] = 1
        block.attn_ln.bias[clean] = 0
        gain = LOCALITY[min(layer, len(LOCALITY) - 1)] * 1.7
        for head in range(model.size.heads):
            if (layer, head) not in FREE_HEADS:
                _look(query, key, head * HEAD_DIM, offsets[head], gain, half)


def _look(query: torch.Tensor, key: torch.Tensor, first: int, offset: float, gain: float, half: int) -> None:
    """Two dimensions of a head for each clean pair: the key as it is, the query turned by `offset` frames."""
    for j, i in enumerate(CLEAN_PAIRS):
        angle = offset * math.exp(-math.log(10000) / (half - 1) * i)
        sine, cosine = math.sin(angle), math.cos(angle)
        a, b = first + 2 * j, first + 2 * j + 1
        for row in (a, b):
            key[row] *= 0.3
            query[row] *= 0.3
        key[a, i] = gain
        key[b, half + i] = gain
        query[a, i], query[a, half + i] = gain * cosine, gain * sine
        query[b, half + i], query[b, i] = gain * cosine, -gain * sine
