"""One Whisper model, resident on a device: mel in, tokens and log-probabilities out.

Takes arrays and prompts, runs the two compiled graphs. Synchronous; the engine gives it a thread of its
own. Checks every size on the host, because a graph that is fed too much ends the process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from max.driver import Buffer, Device
from max.dtype import DType
from max.engine import Model

from captiond_engine.decoding.options import DecodingOptions, FallbackOptions
from captiond_engine.decoding.passes import Passes, Prompt, always
from captiond_engine.decoding.rules import Suppression
from captiond_engine.decoding.task import RulesByOptions
from captiond_engine.decoding.timing import TokenTimes
from captiond_engine.errors import DeviceError
from captiond_engine.types import Decoding, Float32Array, Job, Precision
from captiond_engine.whisper import by_options, row_decoder
from captiond_engine.whisper.cache import BufferPool, Seats
from captiond_engine.whisper.config import WhisperConfig
from captiond_engine.whisper.decode_inputs import DecodeInputs, prompt_inputs
from captiond_engine.whisper.encoding import Encoding, Greedy, text_times, until_end
from captiond_engine.whisper.layers import WeightBank
from captiond_engine.whisper.passes import PromptPasses, RowPasses
from captiond_engine.whisper.tokens import WhisperTokenizer

__all__ = ["Encoding", "Greedy", "Prompt", "WhisperModel"]

CHECK_HOPS, CHECK_TOKENS = 48, 3  # of the shortest run: window and prompt


class WhisperModel:
    """Weights, graphs and buffers of one model on one device. Not safe for use from two threads at once."""

    def __init__(
        self,
        config: WhisperConfig,
        tokenizer: WhisperTokenizer | None,
        suppression: Suppression,
        device: Device,
        encode: tuple[Model, WeightBank],
        decode: tuple[Model, WeightBank],
        prompt_inputs: Callable[[DecodeInputs, Device], list[Buffer]] = prompt_inputs,
        precision: Precision = "float32",
        kept: DType = DType.float32,
        cached: DType = DType.float32,
    ) -> None:
        self.config, self.tokenizer, self.suppression, self.device = config, tokenizer, suppression, device
        self._encode, self._encode_weights = encode
        self._decode, self._decode_weights = decode  # the banks own the arrays that the graphs read
        self._prompt_inputs = prompt_inputs  # of the decoder that ``decode`` is
        self.precision: Precision = precision
        self._pool = BufferPool(config, device, cached)
        self._seats = Seats(config, device, kept)
        self.rules = RulesByOptions(suppression, config.n_vocab)
        self._masks: dict[int, tuple[Suppression, Buffer, Buffer]] = {}

    def encode(self, mels: Float32Array, heard: Sequence[int] | None = None) -> Encoding:
        """Encode ``mels`` float32 [B, C, N] into seats; N even, 2 to ``config.max_hops``.

        ``heard``: positions of sound in each row, where the rest is padding. Raises ValueError, DeviceError.
        """
        if mels.ndim != 3 or mels.shape[0] < 1:
            raise ValueError(f"mel has shape {mels.shape}; [B, {self.config.n_mels}, N] was expected")
        self._check_window(mels.shape[1:])
        rows = mels.shape[0]
        seats = self._seats.take(rows, mels.shape[2] // 2)
        began = time.perf_counter()
        [encoded] = self._run(
            self._encode,
            self._to_device(np.ascontiguousarray(mels, dtype=np.float32)),
            Buffer.from_numpy(np.array(seats[0].index, np.int64)),
            *self._seats.buffers,
        )
        self._wait()
        took_ms = (time.perf_counter() - began) * 1000 / rows
        positions = mels.shape[2] // 2
        sound = [positions] * rows if heard is None else [min(positions, one) for one in heard]
        return Encoding(seats, encoded, (took_ms,) * rows, tuple(sound))

    def _check_window(self, shape: tuple[int, ...]) -> None:
        config = self.config
        if len(shape) != 2 or shape[0] != config.n_mels:
            raise ValueError(f"a window of shape {shape}; [{config.n_mels}, N] was expected")
        if shape[1] % 2 or not 2 <= shape[1] <= config.max_hops:
            raise ValueError(
                f"a window of {shape[1]} hops; an even number up to {config.max_hops} was expected"
            )

    def greedy(
        self,
        encoding: Encoding,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int | None = None,
        suppression: Suppression | None = None,
    ) -> Greedy:
        """Decode one row per prompt in one graph call. Raises ValueError, DeviceError.

        ``max_new_tokens``, one or more, defaults to half the text context, as the reference's ``sample_len``;
        it is lowered to what the longest prompt leaves free.
        """
        limit = self._limit(encoding, prompts, max_new_tokens)
        end, no_speech = self._control_tokens()
        self._seats.check(encoding.seats)
        decode = DecodeInputs(
            [p.tokens for p in prompts],
            [p.start for p in prompts],
            encoding.seats,
            self.config.n_text_ctx,
            limit,
            end,
            no_speech,
        )
        buffers = self._pool.rows(len(prompts))
        began = time.perf_counter()
        steps, sums, silence, logits = self._run(
            self._decode,
            *self._prompt_inputs(decode, self.device),
            *self._suppression_masks(suppression or self.suppression),
            buffers.tokens,
            buffers.log_probabilities,
            buffers.attended,
            *buffers.caches,
            *self._seats.buffers,
        )
        said, likely, total, silent = self._read(buffers.tokens, buffers.log_probabilities, sums, silence)
        count = int(self._read(steps)[0])
        tokens, log_probabilities = until_end(said[:, :count], likely[:, :count], end)
        elapsed_ms = (time.perf_counter() - began) * 1000
        return Greedy(tokens, log_probabilities, total.copy(), silent[:, 0].copy(), logits, elapsed_ms)

    def decode(
        self,
        encoding: Encoding,
        prompts: Sequence[Prompt],
        languages: Sequence[str | None],
        *,
        max_new_tokens: int | None = None,
        suppression: Suppression | None = None,
    ) -> list[Decoding]:
        """One Decoding per row, without end-of-text, with its tokens' times; else as ``greedy``."""
        answer = self.greedy(encoding, prompts, max_new_tokens=max_new_tokens, suppression=suppression)
        times = self._times(prompts, answer, encoding)
        return answer.decodings(encoding, languages, times, self._control_tokens()[0])

    def align(self, encoding: Encoding, prompts: Sequence[Prompt]) -> list[TokenTimes]:
        """When the prefix of each row's prompt was said, in one pass over it. Raises ValueError, DeviceError.

        The slow twin of the times that ``decode`` gives, and for texts that it did not say.
        """
        answer = self.greedy(encoding, prompts, max_new_tokens=1)
        return self._times(prompts, replace(answer, tokens=[[] for _ in prompts]), encoding)

    def kept_attention(self, rows: int) -> Float32Array:
        """What the newest decode of so many rows heeded, [B, T, A, S]; good until the next one."""
        return self._read(self._pool.rows(rows).attended)[0]

    def _times(self, prompts: Sequence[Prompt], answer: Greedy, encoding: Encoding) -> list[TokenTimes]:
        """Of the newest decode, before the next one takes its buffers."""
        heeded = self._pool.rows(len(prompts)).heeded
        end, _ = self._control_tokens()
        padded = self._prompt_inputs is not row_decoder.prompt_inputs
        return text_times(heeded, prompts, answer.tokens, encoding.heard, end, padded=padded)

    def decode_with(
        self,
        encoding: Encoding,
        options: Sequence[DecodingOptions | FallbackOptions],
        may_go_on: Callable[[], bool] = always,
    ) -> list[Decoding]:
        """One Decoding per row, as its options say. Greedy decodes without timestamps run in the graph, all
        others pass by pass; ``may_go_on``: see ``decoding.fallback``.

        Raises OptionsError, ModelError (a language that is not known), ValueError, DeviceError.
        """
        return by_options.decode_with(self, encoding, options, may_go_on)

    def passes(self, encoding: Encoding) -> Passes:
        """Single passes over ``encoding``, for one search at a time."""
        if self._prompt_inputs is not row_decoder.prompt_inputs:
            return PromptPasses(self._read_prompts, encoding.take, self.config.n_text_ctx)
        self._seats.check(encoding.seats)
        return RowPasses(
            lambda *inputs: self._run(self._decode, *inputs, *self._seats.buffers),
            self._pool,
            encoding.seats,
            self.config,
            self._control_tokens(),
        )

    def _read_prompts(
        self, encoding: Encoding, prompts: Sequence[Prompt]
    ) -> tuple[Float32Array, Float32Array]:
        """Logits [B, V] after prompts, probability [B] of no speech."""
        answer = self.greedy(encoding, prompts, max_new_tokens=1)
        return answer.first_logits.to_numpy().copy(), answer.no_speech

    def detect_languages(self, encoding: Encoding) -> list[str]:
        """The likeliest language of each row."""
        return by_options.languages_of(self, encoding, [None] * encoding.rows)[0]

    def probe(self, mel: Float32Array | None = None) -> None:
        """Little work for both graphs: two tokens of ``mel`` float32 [C, N], or of half a second of silence.

        The shapes are those of the known-answer run, so that they are known to work. Raises DeviceError.
        """
        end, _ = self._control_tokens()
        heard = np.zeros((self.config.n_mels, CHECK_HOPS), np.float32) if mel is None else mel
        self.greedy(self.encode(heard[None]), [Prompt((end,) * CHECK_TOKENS)], max_new_tokens=2)

    def run(self, jobs: Sequence[Job]) -> list[Decoding]:
        """Answer jobs in order; windows of equal length share an encode, and those without options a decode.

        Raises ValueError before any of them is run where a window has another shape, and DeviceError.
        """
        for job in jobs:
            self._check_window(job.payload.mel.shape)
        if not jobs:
            return []
        by_hops: dict[int, list[int]] = {}
        for index, job in enumerate(jobs):
            by_hops.setdefault(job.payload.mel.shape[1], []).append(index)
        self._seats.reserve(len(jobs))
        parts = [
            self.encode(
                np.stack([jobs[index].payload.mel for index in indices]),
                [jobs[index].payload.positions for index in indices],
            )
            for indices in by_hops.values()
        ]
        order, heard = [index for indices in by_hops.values() for index in indices], Encoding.joined(parts)
        by_index: dict[int, Decoding] = {}
        for plain in (True, False):
            rows = [row for row, at in enumerate(order) if (jobs[at].payload.options is None) is plain]
            answers = self._decode_jobs([jobs[order[row]] for row in rows], heard.take(rows)) if rows else []
            by_index |= dict(zip([order[row] for row in rows], answers, strict=True))
        return [by_index[index] for index in range(len(jobs))]

    def _decode_jobs(self, jobs: Sequence[Job], encoding: Encoding) -> list[Decoding]:
        tokenizer = self.require_tokenizer()
        if jobs[0].payload.options is not None:  # as all of these
            options = [by_options.of_window(job.payload) for job in jobs]
            return self.decode_with(encoding, options, by_options.within_budget(options))
        languages, _ = by_options.languages_of(self, encoding, [job.payload.prompt.language for job in jobs])
        prompts = []
        for job, language in zip(jobs, languages, strict=True):
            spec = job.payload.prompt
            tokens, start = tokenizer.prompt(spec, language=language)
            prompts.append(Prompt(tuple(tokens), start, len(spec.prefix)))
        return self.decode(encoding, prompts, languages)

    def _limit(self, encoding: Encoding, prompts: Sequence[Prompt], asked: int | None) -> int:
        config = self.config
        if len(prompts) != encoding.rows:
            raise ValueError(f"{len(prompts)} prompts for {encoding.rows} encoded rows")
        if any(not p.tokens or not 0 <= p.start < len(p.tokens) for p in prompts):
            raise ValueError("a prompt must hold start-of-transcript")
        if any(not 0 <= token < config.n_vocab for p in prompts for token in p.tokens):
            raise ValueError(f"a prompt holds a token outside the vocabulary of {config.n_vocab}")
        free = config.n_text_ctx - max(len(p.tokens) for p in prompts)
        if free < 1:
            raise ValueError(f"a prompt leaves no room in the text context of {config.n_text_ctx} tokens")
        if asked is not None and asked < 1:
            raise ValueError(f"max_new_tokens is {asked}; one or more was expected")
        return min(free, config.n_text_ctx // 2 if asked is None else asked)

    def _control_tokens(self) -> tuple[int, int]:
        """End-of-text and no-speech. Without a tokenizer (random weights) the last tokens stand in."""
        if self.tokenizer is None:
            return self.config.n_vocab - 1, self.config.n_vocab - 2
        return self.tokenizer.end_of_text, self.tokenizer.no_speech

    def require_tokenizer(self) -> WhisperTokenizer:
        if self.tokenizer is None:
            raise ValueError("this model was built without a tokenizer")
        return self.tokenizer

    def _suppression_masks(self, suppression: Suppression) -> tuple[Buffer, Buffer]:
        if any(mask.shape != (self.config.n_vocab,) for mask in (suppression.first, suppression.always)):
            raise ValueError(f"a suppression mask is not one of {self.config.n_vocab} tokens")
        known = self._masks.get(id(suppression))
        if known is None or known[0] is not suppression:
            known = (suppression, self._to_device(suppression.first), self._to_device(suppression.always))
            if len(self._masks) >= 8:
                self._masks.clear()
            self._masks[id(suppression)] = known
        return known[1], known[2]

    def _to_device(self, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Buffer:
        return Buffer.from_numpy(np.require(array, requirements="C")).to(self.device)

    def _wait(self) -> None:
        """Until a GPU has done what it was told: else the time, and a failure, would be the next call's."""
        if not self.device.is_host:
            try:
                self.device.synchronize()
            except (RuntimeError, ValueError) as error:
                raise DeviceError(f"The device failed: {error}.") from error

    def _read(self, *buffers: Buffer) -> list[np.ndarray[tuple[int, ...], np.dtype[Any]]]:
        """Arrays of the host. On a GPU a graph that was started may fail only here. Raises DeviceError."""
        try:
            return [buffer.to_numpy() for buffer in buffers]
        except (RuntimeError, ValueError) as error:
            raise DeviceError(f"The device failed: {error}.") from error

    def _run(self, graph: Model, *inputs: Buffer) -> list[Buffer]:
        try:
            return list(graph.execute(*inputs))
        except (RuntimeError, ValueError) as error:
            raise DeviceError(f"The device refused a graph: {error}.") from error
