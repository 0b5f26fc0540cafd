"""The same Whisper weights behind one small interface: captiond and the programs that it is compared with.

Each contender turns audio into a mel spectrogram, encodes it and decodes a fixed number of tokens greedily,
each step its own way. Where the decoder's cross-attention K/V are made differs: captiond and whisper.cpp make
them when they encode, the others with the first token. So only whole times compare one to one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, get_args

import numpy as np
from captiond_engine.types import Float32Array, Precision

from engine.bench.cases import Case
from engine.bench.export import CTRANSLATE2, GGML, HUGGING_FACE, OPENAI
from engine.bench.whisper_cpp import WhisperCpp, WhisperCppMissingError

PRECISIONS: tuple[Precision, ...] = get_args(Precision)  # of captiond's decoder on a CPU


class UnavailableError(Exception):
    """A contender that cannot take part here, and why."""


class Contender(Protocol):
    """``features`` takes audio float32 [B, samples] at 16 kHz; ``encode`` takes what it returns, ``decode``
    what that returns, and gives ``case.new_tokens`` tokens a row. ``detail`` is worth telling of it."""

    detail: str

    def features(self, pcm: Float32Array) -> Any: ...
    def encode(self, features: Any) -> Any: ...
    def decode(self, encoded: Any) -> list[list[int]]: ...


@dataclass(frozen=True, slots=True)
class Entry:
    """Who takes part: ``kind`` as in OPENERS; ``threads`` 0: its own choice."""

    kind: str
    precision: str
    threads: int = 0

    @property
    def name(self) -> str:
        count = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.kind} {self.precision}{f' ({count})' if self.threads else ''}"

    @property
    def file(self) -> str:
        """What it loads, under export.py's names."""
        if self.kind == "whisper.cpp":
            return GGML[self.precision]
        files = {"openai-whisper": OPENAI, "faster-whisper": CTRANSLATE2}
        return files.get(self.kind, HUGGING_FACE)


def entries(threads: int) -> list[Entry]:
    """Everybody, captiond first; ``threads`` is how many the others may use."""
    counts = sorted({1, threads})
    return [
        *(Entry("captiond", precision) for precision in PRECISIONS),
        *(Entry("openai-whisper", "float32", count) for count in counts),
        *(Entry("faster-whisper", precision, n) for precision in ("float32", "int8") for n in counts),
        Entry("transformers", "float32", threads),
        *(Entry("whisper.cpp", precision, threads) for precision in ("float32", "float16", "int8")),
    ]


def open_contender(entry: Entry, case: Case, folder: Path) -> Contender:
    """Loads the files that ``export.write_formats`` left in ``folder``. Raises UnavailableError."""
    try:
        return OPENERS[entry.kind](entry, case, folder / entry.file)
    except ImportError as error:
        raise UnavailableError(f"not installed ({error}): skipped") from error
    except WhisperCppMissingError as error:
        raise UnavailableError(f"not built: skipped ({error})") from error


class Captiond:
    detail = ""

    def __init__(self, entry: Entry, case: Case, path: Path) -> None:
        from captiond_engine.audio.mel import log_mel
        from captiond_engine.decoding.rules import Suppression
        from captiond_engine.whisper.loading import choose_device, load_model
        from captiond_engine.whisper.model import Prompt
        from captiond_engine.whisper.weights import read_checkpoint

        precision = next(one for one in PRECISIONS if one == entry.precision)
        self.model = load_model(
            read_checkpoint(path),
            choose_device("cpu"),
            precision=precision,
            progress=lambda event: print(f"  {entry.name}: {event.message}", file=sys.stderr),
        )
        if self.model.precision != precision:
            raise UnavailableError(f"{precision} does not run here: skipped")
        self._case, self._prompt, self._log_mel = case, Prompt(case.prompt), log_mel
        self._rules = Suppression.of(case.config.n_vocab, always=case.blocked)

    def features(self, pcm: Float32Array) -> Any:
        config = self._case.config
        return np.stack([self._log_mel(row, config.n_mels, config.max_hops) for row in pcm])

    def encode(self, features: Any) -> Any:
        return self.model.encode(features)

    def decode(self, encoded: Any) -> list[list[int]]:
        prompts = [self._prompt] * encoded.rows
        return self.model.greedy(
            encoded, prompts, max_new_tokens=self._case.new_tokens, suppression=self._rules
        ).tokens


class OpenAIWhisper:
    """openai-whisper's own mel, encoder, decoder and K/V cache hooks, without its language and timestamp
    logic."""

    detail = ""

    def __init__(self, entry: Entry, case: Case, path: Path) -> None:
        import torch
        import whisper

        torch.set_num_threads(entry.threads)
        self._torch, self._whisper, self._case = torch, whisper, case
        self._model = whisper.load_model(str(path), device="cpu")
        self._mask = torch.zeros(case.config.n_vocab)
        self._mask[list(case.blocked)] = -torch.inf

    def features(self, pcm: Float32Array) -> Any:
        return self._whisper.log_mel_spectrogram(self._torch.from_numpy(pcm), self._case.config.n_mels)

    def encode(self, features: Any) -> Any:
        with self._torch.inference_mode():
            return self._model.encoder(features)

    def decode(self, encoded: Any) -> list[list[int]]:
        torch, said = self._torch, []
        with torch.inference_mode():
            cache, hooks = self._model.install_kv_cache_hooks()
            fed = torch.tensor([self._case.prompt] * len(encoded))
            for _ in range(self._case.new_tokens):
                logits = self._model.decoder(fed, encoded, kv_cache=cache)[:, -1] + self._mask
                fed = logits.argmax(dim=-1, keepdim=True)
                said.append(fed)
            for hook in hooks:
                hook.remove()
            tokens: list[list[int]] = torch.cat(said, dim=1).tolist()
            return tokens


class FasterWhisper:
    """faster-whisper's mel, and CTranslate2, which it runs on, called directly."""

    detail = ""

    def __init__(self, entry: Entry, case: Case, path: Path) -> None:
        import ctranslate2
        from faster_whisper.feature_extractor import FeatureExtractor

        self._ctranslate2, self._case = ctranslate2, case
        self._extract = FeatureExtractor(feature_size=case.config.n_mels)
        self._model = ctranslate2.models.Whisper(
            str(path), device="cpu", compute_type=entry.precision, intra_threads=entry.threads
        )

    def features(self, pcm: Float32Array) -> Any:
        hops = self._case.config.max_hops
        return np.stack([self._extract(row)[:, :hops] for row in pcm])

    def encode(self, features: Any) -> Any:
        view = self._ctranslate2.StorageView.from_array(np.ascontiguousarray(features, np.float32))
        return self._model.encode(view, to_cpu=True)

    def decode(self, encoded: Any) -> list[list[int]]:
        results = self._model.generate(
            encoded,
            [list(self._case.prompt)] * encoded.shape[0],
            beam_size=1,
            max_length=2 * self._case.new_tokens,  # it keeps half of them for the prompt
            suppress_blank=False,
            suppress_tokens=list(self._case.blocked),
        )
        return [result.sequences_ids[0] for result in results]


class Transformers:
    """Hugging Face's Whisper with PyTorch's fused attention, under its own greedy ``generate``.

    That of ``GenerationMixin``: Whisper's own on top of it adds timestamps and fallbacks, which nobody else
    is asked for here.
    """

    detail = ""

    def __init__(self, entry: Entry, case: Case, path: Path) -> None:
        import torch
        from transformers import (
            GenerationConfig,
            GenerationMixin,
            WhisperFeatureExtractor,
            WhisperForConditionalGeneration,
        )
        from transformers.modeling_outputs import BaseModelOutput

        torch.set_num_threads(entry.threads)
        self._torch, self._case, self._output = torch, case, BaseModelOutput
        self._extract = WhisperFeatureExtractor(feature_size=case.config.n_mels)
        model = WhisperForConditionalGeneration.from_pretrained(
            path, attn_implementation="sdpa", dtype=torch.float32
        )
        self._model, self._generate = model.eval(), GenerationMixin.generate
        self._greedy = GenerationConfig(
            do_sample=False,
            num_beams=1,
            max_new_tokens=case.new_tokens,
            suppress_tokens=list(case.blocked),
            decoder_start_token_id=case.prompt[0],
            eos_token_id=case.blocked[0],
            pad_token_id=case.blocked[0],
        )

    def features(self, pcm: Float32Array) -> Any:
        return self._extract(list(pcm), sampling_rate=16_000, return_tensors="pt").input_features

    def encode(self, features: Any) -> Any:
        with self._torch.inference_mode():
            return self._model.model.encoder(features).last_hidden_state

    def decode(self, encoded: Any) -> list[list[int]]:
        said = self._generate(
            self._model,
            encoder_outputs=self._output(last_hidden_state=encoded),
            decoder_input_ids=self._torch.tensor([self._case.prompt] * len(encoded)),
            generation_config=self._greedy,
        )
        tokens: list[list[int]] = said[:, len(self._case.prompt) :].tolist()
        return tokens


OPENERS: dict[str, Callable[[Entry, Case, Path], Contender]] = {
    "captiond": Captiond,
    "openai-whisper": OpenAIWhisper,
    "faster-whisper": FasterWhisper,
    "transformers": Transformers,
    "whisper.cpp": lambda entry, case, path: WhisperCpp(entry.threads, case, path),
}
