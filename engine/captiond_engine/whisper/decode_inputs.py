"""What one decode asks of a decoder, and the arrays that the plain graph takes for it.

Masks and positions of padded prompts are made here, on the host, because comparisons of broadcast operands
inside a symbolic graph were seen to go wrong. Knows no graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from max.driver import Buffer, Device
from numpy.typing import NDArray

from captiond_engine.types import Float32Array
from captiond_engine.whisper.cache import Seat

BLOCKED = np.float32(-1e30)  # additive mask: finite, so that a fully masked row gives no NaN


@dataclass(frozen=True, slots=True)
class DecodeInputs:
    """One decode as both kinds of decoder take it: a prompt each row, where start-of-transcript stands in
    it, the seat that the row listens to, the text context, most new tokens, end-of-text and no-speech. All
    sizes have been checked."""

    prompts: Sequence[Sequence[int]]
    starts: Sequence[int]
    seats: Sequence[Seat]
    context: int
    max_new: int
    end_of_text: int
    no_speech: int


@dataclass(frozen=True, slots=True)
class PromptArrays:
    """Host-made inputs of one decode. B rows, P the longest prompt, T the text context, S the most positions.

    ``tokens`` int64 [B, P] padded on the left · ``positions`` int64 [B, P] · ``next_positions`` int64 [B] ·
    ``prefill_mask`` float32 [B, 1, P, P] · ``step_mask`` float32 [B, 1, 1, T] · ``start_rows`` float32
    [B, 1, P], one at the start-of-transcript token · ``seats`` int64 [B] · ``heard_mask`` float32
    [B, 1, 1, S].
    """

    tokens: NDArray[np.int64]
    positions: NDArray[np.int64]
    next_positions: NDArray[np.int64]
    prefill_mask: Float32Array
    step_mask: Float32Array
    start_rows: Float32Array
    seats: NDArray[np.int64]
    heard_mask: Float32Array


def prompt_arrays(decode: DecodeInputs) -> PromptArrays:
    """Arrays for prompts and audio of unequal length."""
    prompts, starts, context, pad = decode.prompts, decode.starts, decode.context, decode.end_of_text
    heard = np.array([seat.positions for seat in decode.seats])
    rows, longest = len(prompts), max(len(prompt) for prompt in prompts)
    tokens = np.full((rows, longest), pad, np.int64)
    positions = np.zeros((rows, longest), np.int64)
    prefill_mask = np.full((rows, 1, longest, longest), BLOCKED, np.float32)
    step_mask = np.zeros((rows, 1, 1, context), np.float32)
    start_rows = np.zeros((rows, 1, longest), np.float32)
    causal = np.tril(np.ones((longest, longest), bool))
    for row, (prompt, start) in enumerate(zip(prompts, starts, strict=True)):
        left = longest - len(prompt)
        tokens[row, left:] = prompt
        positions[row, left:] = np.arange(len(prompt))
        allowed = causal & (np.arange(longest) >= left)
        np.fill_diagonal(allowed, True)  # a padding row sees itself, so that its softmax is defined
        prefill_mask[row, 0][allowed] = 0.0
        step_mask[row, 0, 0, :left] = BLOCKED
        start_rows[row, 0, left + start] = 1.0
    lengths = np.array([len(prompt) for prompt in prompts], np.int64)
    seats = np.array([seat.index for seat in decode.seats], np.int64)
    beyond = np.arange(heard.max()) >= heard[:, None]
    heard_mask = np.where(beyond, BLOCKED, np.float32(0))[:, None, None].astype(np.float32)
    return PromptArrays(tokens, positions, lengths, prefill_mask, step_mask, start_rows, seats, heard_mask)


def prompt_inputs(decode: DecodeInputs, device: Device) -> list[Buffer]:
    """The first inputs of the graph, up to the suppression masks."""
    arrays = prompt_arrays(decode)
    on_device = [getattr(arrays, field.name) for field in fields(PromptArrays)]
    control = [np.array(decode.end_of_text, np.int64), np.array([decode.no_speech], np.int64)]
    before = [Buffer.from_numpy(np.ascontiguousarray(array)).to(device) for array in on_device]
    after = [Buffer.from_numpy(array).to(device) for array in control]
    return [*before, Buffer.from_numpy(np.array(decode.max_new, np.int64)), *after]
