"""Single passes of the decoder for searches on the host. All that knows the graph's inputs in this is here.

``RowPasses`` runs the row graph, one row for each beam; ``PromptPasses`` has any decoder read every text from
its start, and is the slow twin. Both implement ``decoding.passes.Passes`` for one encoding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np
from max.driver import Buffer
from numpy.typing import NDArray

from captiond_engine.decoding.passes import ClipPrompt, Prompt
from captiond_engine.decoding.search import Tokens
from captiond_engine.errors import DeviceError
from captiond_engine.types import Float32Array
from captiond_engine.whisper.cache import BufferPool, DecodeBuffers, Seat
from captiond_engine.whisper.config import WhisperConfig
from captiond_engine.whisper.row_decoder import WANTED, prompt_rows

Rows = NDArray[np.int32]
Heard = TypeVar("Heard")


class RowPasses:
    """Passes of the row graph on a CPU. A clip owns as many slots as it will have rows at most.

    ``run`` executes the graph and gives it the seats' buffers last; ``seats``: of each window;
    ``control_tokens``: end-of-text and no-speech. The first row that goes on from
    another one keeps its slot; for each further one the keys and values of its parent are copied to a slot of
    the clip that nobody goes on from. The buffers are the model's: no other decode may run between the passes
    of one search.
    """

    def __init__(
        self,
        run: Callable[..., list[Buffer]],
        pool: BufferPool,
        seats: Sequence[Seat],
        config: WhisperConfig,
        control_tokens: tuple[int, int],
    ) -> None:
        self._run, self._pool, self._windows = run, pool, seats
        self.longest = config.n_text_ctx
        nothing = Buffer.from_numpy(np.zeros(config.n_vocab, np.float32))
        control = [Buffer.from_numpy(np.array([token], np.int32)) for token in control_tokens]
        self._fixed = (*control, nothing, nothing)  # the search suppresses
        self._owners = self._slots = self._positions = np.zeros(0, np.int64)

    def begin(self, clips: Sequence[ClipPrompt]) -> tuple[Float32Array, Float32Array]:
        """As ``Passes``. Raises DeviceError where a prompt leaves no room, or the device fails."""
        widths = [clip.width for clip in clips]
        self._owners = np.repeat(np.arange(len(clips)), widths)  # of each slot: its clip
        self._slots = np.cumsum([0, *widths[:-1]])  # of each row of the newest pass
        self._positions = np.array([len(clip.prompt.tokens) for clip in clips])  # of each row's next token
        heard = [self._windows[clip.window] for clip in clips for _ in range(clip.width)]
        self._seats = np.array([(seat.index, seat.positions) for seat in heard], np.int32)  # of each slot
        self._buffers: DecodeBuffers = self._pool.rows(len(self._owners))
        self._caches = [cache.to_numpy() for cache in self._buffers.caches]  # the same memory
        prompts = [clip.prompt for clip in clips]
        rows = prompt_rows([p.tokens for p in prompts], [p.start for p in prompts], self.longest)
        rows[:, 1] = self._slots[rows[:, 1]]
        logits, silence = self._pass(rows)
        return logits[self._slots], silence[self._slots]

    def step(self, tokens: Tokens, parents: Tokens) -> Float32Array:
        """As ``Passes``. Raises DeviceError where a row leaves the text context, or the device fails."""
        positions = self._positions[parents]
        if positions.max() >= self.longest:
            raise DeviceError(f"A text does not fit in {self.longest} positions.")
        self._slots = self._inherit(parents)
        wanted = np.full(len(tokens), WANTED)
        logits, _ = self._pass(np.stack([tokens, self._slots, positions, wanted], axis=1).astype(np.int32))
        self._positions = positions + 1
        return logits[self._slots]

    def _inherit(self, parents: Tokens) -> Tokens:
        """A slot for each row, holding what its parent's holds."""
        slots = self._slots[parents]
        heirs = np.unique(parents, return_index=True)[1]
        free = np.setdiff1d(np.arange(len(self._owners)), slots[heirs])
        for row in np.setdiff1d(np.arange(len(parents)), heirs):
            parent = slots[row]
            mine = free[self._owners[free] == self._owners[parent]]
            if not len(mine):
                raise DeviceError("A search has more rows than its clip has slots.")
            slots[row] = mine[0]
            free = free[free != mine[0]]
            length = self._positions[parents[row]]
            for cache in self._caches:
                cache[mine[0], :, :length] = cache[parent, :, :length]
        return slots

    def _pass(self, rows: Rows) -> tuple[Float32Array, Float32Array]:
        """One pass: logits [slots, V] after the wanted rows, probability [slots] of no speech."""
        slots = len(self._owners)
        counts = np.array([len(rows), 0, 1], np.int32)  # one token, which the search does not look at
        arrays = (rows, counts, np.zeros(slots, np.float32), self._seats)
        inputs = [Buffer.from_numpy(array) for array in arrays]
        buffers = self._buffers
        outputs = self._run(
            *inputs,
            *self._fixed,
            buffers.tokens,
            buffers.log_probabilities,
            buffers.attended,
            *buffers.caches,
        )
        return outputs[3].to_numpy(), outputs[2].to_numpy()[:, 0]


class PromptPasses(Generic[Heard]):
    """Passes of any decoder: each reads every row's whole text as a prompt. Slow, and right.

    ``read``: logits [B, V] after prompts, and probabilities [B] of no speech; ``take``: what windows heard.
    """

    def __init__(
        self,
        read: Callable[[Heard, Sequence[Prompt]], tuple[Float32Array, Float32Array]],
        take: Callable[[Sequence[int]], Heard],
        context: int,
    ) -> None:
        self._read, self._take = read, take
        self.longest = context - 1  # room for one new token is asked for
        self._prompts: list[Prompt] = []
        self._windows: list[int] = []

    def begin(self, clips: Sequence[ClipPrompt]) -> tuple[Float32Array, Float32Array]:
        """As ``Passes``. Raises ValueError where a prompt leaves no room, and DeviceError."""
        self._prompts = [clip.prompt for clip in clips]
        self._windows = [clip.window for clip in clips]
        return self._pass()

    def step(self, tokens: Tokens, parents: Tokens) -> Float32Array:
        """As ``Passes``. Raises ValueError where a text leaves no room, and DeviceError."""
        grown = [self._prompts[parent] for parent in parents]
        self._prompts = [
            prompt._replace(tokens=(*prompt.tokens, int(token)))
            for prompt, token in zip(grown, tokens, strict=True)
        ]
        self._windows = [self._windows[parent] for parent in parents]
        return self._pass()[0]

    def _pass(self) -> tuple[Float32Array, Float32Array]:
        return self._read(self._take(self._windows), self._prompts)
