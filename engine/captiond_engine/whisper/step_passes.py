"""Decodes by passes of the step graph: greedy without a look at each token, or pass by pass for searches.

Takes the two graphs of ``step_decoder``, seats and prompts; gives tokens, or logits. All that a pass reads
lies in device memory that stays where it is, so that a device which can record a pass (``Model.capture``)
replays it: one call a token, and no wait. Caches and what is heard are rounded up to a few sizes for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from max.driver import Buffer, Device
from max.dtype import DType
from max.engine import Model
from numpy.typing import NDArray

from captiond_engine.errors import DeviceError
from captiond_engine.types import Float32Array
from captiond_engine.whisper.cache import Seat, Seats
from captiond_engine.whisper.config import HEAD_WIDTH, WhisperConfig
from captiond_engine.whisper.decode_inputs import BLOCKED
from captiond_engine.whisper.layers import WeightBank
from captiond_engine.whisper.step_decoder import tables
from captiond_engine.whisper.step_state import Said, State, rounded_up

TEXT_STEP, HEARD_STEP = 64, 250  # sizes of caches and of what is heard are multiples of these
KEPT_STATES = 16  # sizes whose memory and recording are kept
Tokens = NDArray[np.int64]
T = TypeVar("T")


def _filled(values: Sequence[T], rows: int) -> list[T]:
    """``values``, the last of them as often as it takes to be ``rows``."""
    return [*values, *[values[-1]] * (rows - len(values))]


class StepDecoder:
    """The step graph with its memory, for one decode at a time. Not safe for use from two threads at once.

    ``record``: let the device record and replay passes; where it cannot, passes are executed as they are.
    """

    def __init__(
        self,
        config: WhisperConfig,
        device: Device,
        step: tuple[Model, WeightBank],
        listen: Model,
        kept: DType,
        *,
        record: bool = False,
    ) -> None:
        self._config, self._device, self._kept, self.record = config, device, kept, record
        (self._step, self._weights), self._listen = step, listen  # the bank owns what the graph reads
        self._states: dict[tuple[int, int, int], State] = {}
        self._tables: dict[tuple[int, int], list[Buffer]] = {}
        self._keys = 0
        self._constant = self._put(np.zeros(1, np.int64))  # a token that nobody asks about, and step 0
        self._copied: list[Buffer] = []
        self.why_not_recorded = ""

    # --- one decode ---------------------------------------------------------------------------------

    def begin(
        self,
        prompts: Sequence[Sequence[int]],
        starts: Sequence[int],
        heard: tuple[Seats, Sequence[Seat]],
        room: int,
        suppress: tuple[Float32Array, Float32Array],
        no_speech: int,
    ) -> tuple[State, Buffer, Float32Array]:
        """Read the prompts. Gives the state, logits [R, V], the first B after each prompt, and probability of
        no speech [B].

        ``room``: tokens after the longest prompt; ``suppress``: masks of the first token and of all. Raises
        DeviceError.
        """
        rows, longest = len(prompts), max(map(len, prompts))
        if longest + room > self._config.n_text_ctx:
            raise DeviceError(
                f"{room} tokens after a prompt of {longest} do not fit in {self._config.n_text_ctx}."
            )
        heard[0].check(heard[1])
        state = self._hear(rows, longest + room, *heard)
        tokens = np.zeros((rows, longest), np.int64)
        for row, prompt in enumerate(prompts):
            tokens[row, : len(prompt)] = prompt  # what is behind it is read after it has been written anew
        bases = np.arange(rows) * longest
        last = bases + np.array([len(prompt) - 1 for prompt in prompts])
        wanted = np.concatenate([last, bases + np.array(starts)])
        self._copy(state.parents, state.own)
        self._copy(state.suppress, self._put(np.ascontiguousarray(suppress[1])))
        arrays = (tokens, np.zeros(rows, np.int64), wanted)
        outputs = self._run(
            self._step,
            *map(self._put, arrays),
            state.parents,
            self._put(bases),
            *self._table(state.context, longest),
            state.heard_mask,
            self._put(np.array([no_speech], np.int64)),
            self._put(suppress[0] + suppress[1]),
            self._put(np.arange(longest)),
            *self._memory(state),
        )
        self._feed(state, outputs)
        return state, outputs[2], self.read(outputs[3])[rows:, 0].copy()

    def step(self, state: State, tokens: Tokens | None = None, parents: Tokens | None = None) -> list[Buffer]:
        """One more token of each row: what the last pass chose, or ``tokens`` [B]. Row b goes on from row
        ``parents[b]``, or from itself. Outputs of the graph, good until the next pass. Raises DeviceError."""
        if self.record and state.recorded is None:
            self._record(state)
        if tokens is not None:
            self._copy(state.tokens, self._put(np.ascontiguousarray(tokens[:, None], np.int64)))
        if parents is not None:
            self._copy(state.parents, self._put(np.ascontiguousarray(parents, np.int64)))
        elif state.reordered:
            self._copy(state.parents, state.own)
        state.reordered = parents is not None
        inputs = self._inputs(state)
        recorded = self.record and state.recorded
        outputs = self._replayed(state, inputs) if recorded else self._run(self._step, *inputs)
        self._feed(state, outputs)
        return outputs

    def _inputs(self, state: State) -> tuple[Buffer, ...]:
        """Of a pass of one token a row: all of it memory that stays where it is."""
        nothing = self._constant
        return (
            state.tokens,
            state.start,
            state.own,  # wanted is the only token of each row
            state.parents,
            state.own,  # and so it begins where the row does
            *self._table(state.context, 1),
            state.heard_mask,
            nothing,
            state.suppress,
            nothing,
            *self._memory(state),
        )

    def greedy(
        self,
        prompts: Sequence[Sequence[int]],
        starts: Sequence[int],
        heard: tuple[Seats, Sequence[Seat]],
        most: int,
        suppress: tuple[Float32Array, Float32Array],
        control: tuple[int, int],
        *,
        look_every: int = 8,
    ) -> Said:
        """Likeliest token after likeliest token, up to ``most`` a row. ``control``: end-of-text, no-speech.

        The device is asked only every ``look_every`` tokens whether all rows have ended. Where passes are
        recorded rows are filled up to a power of two, so that few sizes serve all.
        """
        end, no_speech = control
        rows, asked = (1 << (len(prompts) - 1).bit_length() if self.record else len(prompts)), len(prompts)
        prompts, starts = _filled(prompts, rows), _filled(starts, rows)
        heard = heard[0], _filled(heard[1], rows)
        state, logits, silence = self.begin(prompts, starts, heard, most, suppress, no_speech)
        firsts = [len(prompt) - 1 for prompt in prompts]
        done = 1
        while done < most and not self._all_ended(state, firsts, done, end):
            for _ in range(min(look_every, most - done)):
                self.step(state)
                done += 1
        said, likely = self.read(state.said), self.read(state.said_log_probabilities)
        tokens, values = [], []
        for row, first in enumerate(firsts[:asked]):
            text = said[row, first : first + done].tolist()
            text = text[: text.index(end) + 1] if end in text else text
            tokens.append(text)
            values.append(likely[row, first : first + len(text)].tolist())
        return Said(tokens, values, silence[:asked], logits)

    # --- memory -------------------------------------------------------------------------------------

    def _hear(self, rows: int, context: int, all_seats: Seats, seats: Sequence[Seat]) -> State:
        """The state of this size, its rows hearing ``seats``."""
        config = self._config
        all_seats.check(seats)
        most = max(seat.positions for seat in seats)
        size = (
            rows,
            rounded_up(context, TEXT_STEP, config.n_text_ctx),
            rounded_up(most, HEARD_STEP, config.n_audio_ctx),
        )
        state = self._states.pop(size, None) or self._make(*size)
        self._states[size] = state  # the newest stands last
        while len(self._states) > KEPT_STATES:
            self._forget(self._states.pop(next(iter(self._states))))
        beyond = np.arange(size[2]) >= np.array([seat.positions for seat in seats])[:, None]
        mask = np.where(beyond, BLOCKED, np.float32(0)).astype(np.float32)[:, None]
        self._copy(state.heard_mask, self._put(mask))
        self._copy(state.seats, self._put(np.array([seat.index for seat in seats], np.int64)))
        self._run(self._listen, state.seats, *state.cross, *all_seats.buffers)
        return state

    def _make(self, rows: int, context: int, heard: int) -> State:
        config, count = self._config, 2 * self._config.n_text_layer
        self._keys += 1

        def zeros(shape: tuple[int, ...], dtype: DType = DType.int64) -> Buffer:
            return Buffer.zeros(shape, dtype, device=self._device)

        def caches(positions: int) -> list[Buffer]:
            shape = (rows, positions, config.n_text_head, HEAD_WIDTH)
            return [zeros(shape, self._kept) for _ in range(count)]

        return State(
            self._keys,
            zeros((rows,)),
            zeros((rows, 1)),
            zeros((rows,)),
            zeros((rows,)),
            self._put(np.arange(rows)),
            zeros((rows, 1, heard), DType.float32),
            zeros((config.n_vocab,), DType.float32),
            caches(heard),
            zeros((rows, context)),
            zeros((rows, context), DType.float32),
            caches(context),
        )

    def _memory(self, state: State) -> tuple[Buffer, ...]:
        return (*state.cross, state.said, state.said_log_probabilities, *state.caches)

    def _table(self, context: int, tokens: int) -> list[Buffer]:
        """The tables of one size on the device."""
        key = (context, tokens)
        if key not in self._tables:
            made = tables(context, tokens)
            if len(self._tables) >= 4 * KEPT_STATES:
                self._tables = {key: one for key, one in self._tables.items() if key[1] == 1}
            self._tables[key] = [self._put(a) for a in (made.visible, made.offset, made.fresh, made.same)]
        return self._tables[key]

    def _forget(self, state: State) -> None:
        if state.recorded is not None:
            state.recorded = None
            self._step.release_captured_graph(state.key)

    # --- the device ---------------------------------------------------------------------------------

    def _feed(self, state: State, outputs: Sequence[Buffer]) -> None:
        """What was chosen is what the next pass reads; copied on the device, in the order of its work."""
        self._copy(state.tokens, outputs[0])
        self._copy(state.start, outputs[1])

    def _copy(self, target: Buffer, source: Buffer) -> None:
        """Copy on the device, in the order of its work; the source is kept until something has been read.

        On a CPU a copy by MAX 26.7 was seen to happen after the next run of a graph, or after its source was
        gone; there NumPy copies.
        """
        if self._device.is_host:
            np.copyto(target.to_numpy(), source.to_numpy())
            return
        target.inplace_copy_from(source)
        self._copied.append(source)

    def _record(self, state: State) -> None:
        """Let the device record a pass of this size. Whether that also runs it does not matter: before the
        first pass rows go on from themselves, and a pass that is run twice gives and leaves the same."""
        try:
            state.recorded = list(self._step.capture(state.key, *self._inputs(state)))
        except (RuntimeError, ValueError) as error:
            self.record, self.why_not_recorded = False, str(error)

    def _replayed(self, state: State, inputs: tuple[Buffer, ...]) -> list[Buffer]:
        assert state.recorded is not None
        try:
            self._step.replay(state.key, *inputs)
        except (RuntimeError, ValueError) as error:
            raise DeviceError(f"The device refused a recorded pass: {error}.") from error
        return state.recorded

    def _all_ended(self, state: State, firsts: Sequence[int], done: int, end: int) -> bool:
        said = self.read(state.said)  # waits for the device
        return all(end in said[row, first : first + done] for row, first in enumerate(firsts))

    def read(self, buffer: Buffer) -> NDArray[Any]:
        """An array of the host. On a GPU a pass that was started may fail only here. Raises DeviceError."""
        try:
            array: NDArray[Any] = buffer.to_numpy()
            self._copied.clear()
            return array
        except (RuntimeError, ValueError) as error:
            raise DeviceError(f"The device failed: {error}.") from error

    def _put(self, array: NDArray[Any]) -> Buffer:
        return Buffer.from_numpy(np.ascontiguousarray(array)).to(self._device)

    def _run(self, graph: Model, *inputs: Buffer) -> list[Buffer]:
        try:
            return list(graph.execute(*inputs))
        except (RuntimeError, ValueError) as error:
            raise DeviceError(f"The device refused a graph: {error}.") from error
