"""The same Whisper weights behind one small interface: captiond, openai-whisper and CTranslate2.

Each contender encodes windows of 30 s and decodes a fixed number of tokens greedily, its own way.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from captiond_engine.decoding.rules import Suppression
from captiond_engine.types import Float32Array
from captiond_engine.whisper.config import WhisperConfig
from captiond_engine.whisper.model import Prompt, WhisperModel

from engine.bench.export import write_hugging_face

NEW_TOKENS = 50


@dataclass(frozen=True, slots=True)
class Case:
    """One set of weights: prompt, and tokens that no contender may say (end-of-text among them)."""

    name: str
    config: WhisperConfig
    tensors: dict[str, Float32Array]
    prompt: tuple[int, ...]
    blocked: tuple[int, ...]


class Contender(Protocol):
    """``encode`` takes mels [B, C, N] and returns what ``decode`` takes, which returns NEW_TOKENS tokens of
    the first row."""

    def encode(self, mels: Float32Array) -> Any: ...
    def decode(self, encoded: Any) -> list[int]: ...


class Captiond:
    def __init__(self, case: Case, model: WhisperModel) -> None:
        self._model, self._prompt = model, Prompt(case.prompt)
        self._rules = Suppression.of(case.config.n_vocab, always=case.blocked)

    def encode(self, mels: Float32Array) -> Any:
        return self._model.encode(mels)

    def decode(self, encoded: Any) -> list[int]:
        answer = self._model.greedy(
            encoded, [self._prompt] * encoded.rows, max_new_tokens=NEW_TOKENS, suppression=self._rules
        )
        return answer.tokens[0]


class OpenAIWhisper:
    """openai-whisper's own decoder and K/V cache hooks, without its language and timestamp logic."""

    def __init__(self, case: Case, threads: int) -> None:
        import torch
        from whisper.model import ModelDimensions, Whisper

        torch.set_num_threads(threads)
        self._torch, self._prompt = torch, case.prompt
        dims = {name: getattr(case.config, name) for name in ModelDimensions.__dataclass_fields__}
        self._model = Whisper(ModelDimensions(**dims)).eval()
        self._model.load_state_dict({n: torch.from_numpy(a) for n, a in case.tensors.items()})
        self._mask = torch.zeros(case.config.n_vocab)
        self._mask[list(case.blocked)] = -torch.inf

    def encode(self, mels: Float32Array) -> Any:
        with self._torch.inference_mode():
            return self._model.encoder(self._torch.from_numpy(mels))

    def decode(self, encoded: Any) -> list[int]:
        torch, tokens = self._torch, []
        with torch.inference_mode():
            cache, hooks = self._model.install_kv_cache_hooks()
            fed = torch.tensor([self._prompt])
            for _ in range(NEW_TOKENS):
                logits = self._model.decoder(fed, encoded, kv_cache=cache)[0, -1] + self._mask
                tokens.append(int(logits.argmax()))
                fed = torch.tensor([[tokens[-1]]])
            for hook in hooks:
                hook.remove()
        return tokens


class CTranslate2:
    """What faster-whisper runs on, called directly."""

    def __init__(self, case: Case, folder: Path, precision: str, threads: int) -> None:
        import ctranslate2

        self._ctranslate2, self._prompt, self._blocked = ctranslate2, list(case.prompt), list(case.blocked)
        self._model = ctranslate2.models.Whisper(
            str(folder), device="cpu", compute_type=precision, intra_threads=threads
        )

    def encode(self, mels: Float32Array) -> Any:
        view = self._ctranslate2.StorageView.from_array(np.ascontiguousarray(mels))
        return self._model.encode(view, to_cpu=True)

    def decode(self, encoded: Any) -> list[int]:
        results = self._model.generate(
            encoded,
            [self._prompt] * encoded.shape[0],
            beam_size=1,
            max_length=2 * NEW_TOKENS,  # it counts half of them for the prompt
            suppress_blank=False,
            suppress_tokens=self._blocked,
        )
        tokens: list[int] = results[0].sequences_ids[0]
        return tokens


def converted(case: Case, folder: Path) -> Path:
    """The case's weights in CTranslate2's format, float32, in ``folder``."""
    from ctranslate2.converters import TransformersConverter

    target = folder / case.name
    with tempfile.TemporaryDirectory() as source:
        write_hugging_face(Path(source), case.config, case.tensors)
        TransformersConverter(source).convert(str(target), quantization="float32")
    return target
