"""Whisper in plain torch, with OpenAI's parameter names, for training: a vocabulary of the domain's tokens
alone, encoder windows of any length, a CTC head on the encoder and the cross-attention of one head at
hand (openai-whisper's model.py).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own custom)
from torch import Tensor, nn

HEAD_DIM = 64
TEXT_CONTEXT = 448
AUDIO_CONTEXT = 1500
MELS = 80
FRAME_S = 0.02  # of the encoder
CTC_SYMBOLS = 29  # blank, a to z, apostrophe, space


@dataclass(frozen=True)
class Size:
    state: int = 192
    encoder_layers: int = 4
    decoder_layers: int = 3

    @property
    def heads(self) -> int:
        return self.state // HEAD_DIM


class Attention(nn.Module):
    def __init__(self, state: int) -> None:
        super().__init__()
        self.heads = state // HEAD_DIM
        self.query = nn.Linear(state, state)
        self.key = nn.Linear(state, state, bias=False)
        self.value = nn.Linear(state, state)
        self.out = nn.Linear(state, state)

    def forward(self, x: Tensor, over: Tensor | None = None, *, causal: bool = False) -> Tensor:
        """x [batch, n, state]; `over` [batch, m, state] for cross-attention."""
        source = x if over is None else over
        q, k, v = (self._split(p) for p in (self.query(x), self.key(source), self.value(source)))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def first_head(self, x: Tensor, over: Tensor) -> Tensor:
        """Attention weights of head 0: float32 [batch, n, m]."""
        q = F.linear(x, self.query.weight[:HEAD_DIM], self.query.bias[:HEAD_DIM])
        k = F.linear(over, self.key.weight[:HEAD_DIM])
        return (q @ k.mT / HEAD_DIM**0.5).float().softmax(dim=-1)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, HEAD_DIM)).transpose(1, 2)


class Block(nn.Module):
    def __init__(self, state: int, *, crossing: bool) -> None:
        super().__init__()
        self.attn, self.attn_ln = Attention(state), nn.LayerNorm(state)
        if crossing:
            self.cross_attn, self.cross_attn_ln = Attention(state), nn.LayerNorm(state)
        self.mlp = nn.Sequential(nn.Linear(state, 4 * state), nn.GELU(), nn.Linear(4 * state, state))
        self.mlp_ln = nn.LayerNorm(state)


def sinusoids(length: int, channels: int) -> Tensor:
    """[length, channels], sines then cosines (openai-whisper's `sinusoids`)."""
    step = torch.log(torch.tensor(10000.0)) / (channels // 2 - 1)
    angle = torch.arange(length)[:, None] * torch.exp(-step * torch.arange(channels // 2))[None]
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class Encoder(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(MELS, size.state, 3, padding=1)
        self.conv2 = nn.Conv1d(size.state, size.state, 3, stride=2, padding=1)
        self.register_buffer("positional_embedding", sinusoids(AUDIO_CONTEXT, size.state))
        self.blocks = nn.ModuleList(Block(size.state, crossing=False) for _ in range(size.encoder_layers))
        self.ln_post = nn.LayerNorm(size.state)

    def forward(self, mel: Tensor) -> Tensor:
        """mel [batch, 80, frames] → [batch, frames/2, state]."""
        x = F.gelu(self.conv2(F.gelu(self.conv1(mel)))).transpose(1, 2).float()
        x = x + self.positional_embedding[: x.shape[1]]
        for block in self.blocks:
            x = x + block.attn(block.attn_ln(x))
            x = x + block.mlp(block.mlp_ln(x))
        return self.ln_post(x)


class Decoder(nn.Module):
    def __init__(self, size: Size, tokens: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(tokens, size.state)
        self.positional_embedding = nn.Parameter(torch.empty(TEXT_CONTEXT, size.state))
        self.blocks = nn.ModuleList(Block(size.state, crossing=True) for _ in range(size.decoder_layers))
        self.ln = nn.LayerNorm(size.state)

    def forward(self, tokens: Tensor, heard: Tensor, attended: list[Tensor] | None = None) -> Tensor:
        """tokens [batch, n], heard [batch, m, state] → [batch, n, state]; `attended` collects the last two
        layers' head 0.
        """
        x = self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]
        for i, block in enumerate(self.blocks):
            x = x + block.attn(block.attn_ln(x), causal=True)
            asked = block.cross_attn_ln(x)
            if attended is not None and i >= len(self.blocks) - 2:
                attended.append(block.cross_attn.first_head(asked, heard))
            x = x + block.cross_attn(asked, heard)
            x = x + block.mlp(block.mlp_ln(x))
        return self.ln(x)


class Whisper(nn.Module):
    def __init__(self, size: Size, tokens: int) -> None:
        super().__init__()
        self.size = size
        self.encoder, self.decoder = Encoder(size), Decoder(size, tokens)
        self.ctc = nn.Linear(size.state, CTC_SYMBOLS)

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.decoder.token_embedding.weight).float()

    @torch.no_grad()
    def greedy(self, mel: Tensor, start: list[int], end: int, longest: int = 150) -> list[list[int]]:
        """Most likely tokens of each window of [batch, 80, frames], without start and end."""
        with torch.autocast(mel.device.type, torch.bfloat16):
            heard = self.encoder(mel)
            tokens = torch.tensor([start] * len(mel), device=mel.device)
            done = torch.zeros(len(mel), dtype=torch.bool, device=mel.device)
            for _ in range(longest):
                chosen = self.logits(self.decoder(tokens, heard)[:, -1]).argmax(dim=-1)
                chosen[done] = end
                tokens = torch.cat([tokens, chosen[:, None]], dim=1)
                done |= chosen == end
                if done.all():
                    break
        return [[t for t in row[len(start) :] if t != end] for row in tokens.tolist()]


@dataclass
class Checkpoint:
    """What training goes on from. `tokens` maps a row of the embedding to the id in Whisper's vocabulary."""

    size: Size
    tokens: list[int]
    averaged: dict[str, Tensor]
    steps: int
    audio_seconds: float

    def save(self, path: Path) -> None:
        told: dict[str, Any] = {**vars(self), "size": asdict(self.size)}
        scratch = path.with_suffix(".part")
        torch.save(told, scratch)
        scratch.rename(path)

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        told = torch.load(path, map_location="cpu", weights_only=True)
        told.pop("weights", None)  # earlier checkpoints kept the newest beside the average
        return cls(**{**told, "size": Size(**told["size"])})

    def model(self) -> Whisper:
        model = Whisper(self.size, len(self.tokens))
        model.load_state_dict(self.averaged)
        return model
