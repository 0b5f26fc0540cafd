"""Passes of the step graph for searches on the host, as ``decoding.passes.Passes`` has them; not for CPUs.

Takes a decoder of steps and what windows were heard; gives logits. Knows no rule of a search.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from captiond_engine.errors import DeviceError
from captiond_engine.types import Float32Array
from captiond_engine.whisper.cache import Seat, Seats
from captiond_engine.whisper.config import WhisperConfig
from captiond_engine.whisper.step_passes import StepDecoder
from captiond_engine.whisper.step_state import State

Tokens = NDArray[np.int64]


class _Prompt(Protocol):
    @property
    def tokens(self) -> Sequence[int]: ...
    @property
    def start(self) -> int: ...


class Clip(Protocol):
    """One clip of a search: its prompt, its row among the encoded windows, and the most rows it will have."""

    @property
    def prompt(self) -> _Prompt: ...
    @property
    def window(self) -> int: ...
    @property
    def width(self) -> int: ...


class StepPasses:
    """One search at a time: logits after prompts, then after one more token of each row.

    A clip owns as many rows of the graph as it will have at most; each pass runs them all, and each takes its
    parent's cache. ``heard``: the seats' owner and the seat of each encoded window; ``longest``: most tokens
    of a row.
    """

    def __init__(
        self, decoder: StepDecoder, config: WhisperConfig, heard: tuple[Seats, Sequence[Seat]], no_speech: int
    ) -> None:
        self._decoder, self._heard, self._no_speech = decoder, heard, no_speech
        self.longest = config.n_text_ctx
        self._nothing = np.zeros(config.n_vocab, np.float32)  # a search suppresses for itself
        self._state: State | None = None
        self._owners = self._rows = self._lengths = np.zeros(0, np.int64)

    def begin(self, clips: Sequence[Clip]) -> tuple[Float32Array, Float32Array]:
        """Logits [B, V] after each clip's prompt, its probability [B] of no speech. Raises DeviceError."""
        widths = [clip.width for clip in clips]
        self._owners = np.repeat(np.arange(len(clips)), widths)  # of each of the graph's rows: its clip
        self._rows = np.cumsum([0, *widths[:-1]])  # of each row of the search: the graph's
        spread = [clips[owner] for owner in self._owners.tolist()]
        seats = [self._heard[1][clip.window] for clip in spread]
        prompts = [clip.prompt.tokens for clip in spread]
        self._lengths = np.array([len(prompt) for prompt in prompts])
        room = self.longest - int(self._lengths.max())
        if room < 1:
            raise DeviceError(f"A prompt leaves no room in {self.longest} positions.")
        starts = [clip.prompt.start for clip in spread]
        self._state, logits, silence = self._decoder.begin(
            prompts, starts, (self._heard[0], seats), room, (self._nothing, self._nothing), self._no_speech
        )
        return np.array(self._decoder.read(logits)[self._rows]), silence[self._rows]

    def step(self, tokens: Tokens, parents: Tokens) -> Float32Array:
        """Logits [R, V] after one token each; row r goes on from row ``parents[r]`` of the last pass. Raises
        DeviceError where a row leaves the text context, or a clip has more rows than it said."""
        if self._state is None:
            raise ValueError("a search begins with prompts")
        from_rows = self._rows[parents]
        if self._lengths[from_rows].max() >= self.longest:
            raise DeviceError(f"A text does not fit in {self.longest} positions.")
        rows = self._seated(self._owners[from_rows])
        all_tokens = np.zeros(len(self._owners), np.int64)
        all_parents = np.arange(len(self._owners))  # a row that nobody needs goes on by itself
        all_tokens[rows], all_parents[rows] = tokens, from_rows
        outputs = self._decoder.step(self._state, all_tokens, all_parents)
        self._lengths += 1
        self._rows = rows
        return np.array(self._decoder.read(outputs[2])[rows])

    def _seated(self, owners: Tokens) -> Tokens:
        """A row of the graph for each row of the search: the clip's first, second, and so on."""
        rows = np.zeros(len(owners), np.int64)
        for clip in np.unique(owners):
            mine, asked = np.flatnonzero(self._owners == clip), np.flatnonzero(owners == clip)
            if len(asked) > len(mine):
                raise DeviceError("A search has more rows than its clip asked for.")
            rows[asked] = mine[: len(asked)]
        return rows
