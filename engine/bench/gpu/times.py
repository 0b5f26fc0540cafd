"""Encode and decode times beside torch on the same device, in turn, in one process.

openai-whisper in float16 with its own K/V hooks, and transformers with sdpa in float16, where they can be
imported and a GPU build of torch sees the device; otherwise the report says that they are missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from captiond_engine.types import Float32Array, Precision

from engine.bench.gpu.cases import Case, mels
from engine.bench.gpu.running import NEW_TOKENS, Lab, agreement, median_ms


class Peer(Protocol):
    """``encode`` and ``decode`` wait until the device is done; ``decode`` makes NEW_TOKENS tokens a row."""

    def encode(self, sound: Float32Array) -> Any: ...
    def decode(self, encoded: Any) -> Any: ...


class OpenAIWhisper:
    """Its model and its K/V hooks; tokens are chosen on the device and never looked at."""

    def __init__(self, case: Case) -> None:
        import torch
        from whisper.model import ModelDimensions, Whisper

        if not torch.cuda.is_available():
            raise RuntimeError("torch sees no GPU")
        self._torch, self._prompt = torch, case.prompt
        dims = {name: getattr(case.config, name) for name in ModelDimensions.__dataclass_fields__}
        with torch.device("cuda"):
            self._model = Whisper(ModelDimensions(**dims))
        self._model.load_state_dict({n: torch.from_numpy(a) for n, a in case.tensors.items()})
        self._model = self._model.eval().half()
        self._mask = torch.zeros(case.config.n_vocab, device="cuda")
        self._mask[case.config.n_vocab - 1] = -torch.inf

    def encode(self, sound: Float32Array) -> Any:
        with self._torch.inference_mode():
            encoded = self._model.encoder(self._torch.from_numpy(sound).cuda().half())
        self._torch.cuda.synchronize()
        return encoded

    def decode(self, encoded: Any) -> list[list[int]]:
        torch, said = self._torch, []
        with torch.inference_mode():
            cache, hooks = self._model.install_kv_cache_hooks()
            fed = torch.tensor([self._prompt] * len(encoded), device="cuda")
            for _ in range(NEW_TOKENS):
                logits = self._model.decoder(fed, encoded, kv_cache=cache)[:, -1].float() + self._mask
                fed = logits.argmax(-1, keepdim=True)
                said.append(fed)
            for hook in hooks:
                hook.remove()
            tokens: list[list[int]] = torch.cat(said, dim=1).tolist()
        return tokens


class Transformers:
    """``generate`` with sdpa; its weights are random ones of its own, so its tokens are not compared."""

    def __init__(self, case: Case) -> None:
        import torch
        from transformers import WhisperConfig, WhisperForConditionalGeneration

        if not torch.cuda.is_available():
            raise RuntimeError("torch sees no GPU")
        dims, self._torch = case.config, torch
        config = WhisperConfig(
            vocab_size=dims.n_vocab,
            num_mel_bins=dims.n_mels,
            d_model=dims.n_text_state,
            encoder_layers=dims.n_audio_layer,
            decoder_layers=dims.n_text_layer,
            encoder_attention_heads=dims.n_audio_head,
            decoder_attention_heads=dims.n_text_head,
            encoder_ffn_dim=4 * dims.n_audio_state,
            decoder_ffn_dim=4 * dims.n_text_state,
            attn_implementation="sdpa",
        )
        with torch.device("cuda"):
            self._model = WhisperForConditionalGeneration(config).eval().half()
        self._start = case.prompt

    def encode(self, sound: Float32Array) -> Any:
        with self._torch.inference_mode():
            encoded = self._model.model.encoder(self._torch.from_numpy(sound).cuda().half())
        self._torch.cuda.synchronize()
        return encoded

    def decode(self, encoded: Any) -> None:
        rows = len(encoded[0])
        with self._torch.inference_mode():
            self._model.generate(
                encoder_outputs=encoded,
                decoder_input_ids=self._torch.tensor([self._start] * rows, device="cuda"),
                min_new_tokens=NEW_TOKENS,
                max_new_tokens=NEW_TOKENS,
                do_sample=False,
                num_beams=1,
            )
        self._torch.cuda.synchronize()


PEERS: dict[str, Callable[[Case], Peer]] = {
    "openai-whisper float16": OpenAIWhisper,
    "transformers sdpa float16": Transformers,
}


def of_size(lab: Lab, size: str, precision: Precision, rows: int, rounds: int) -> dict[str, Any]:
    """Median milliseconds of ``rows`` windows of 30 s: encode, and NEW_TOKENS tokens by loop and by steps."""
    subject = lab.subject(size, precision)
    sound = mels(subject.case.config, rows)
    encoding = subject.encode(sound)
    found: dict[str, Any] = {"rows": rows, "new_tokens": NEW_TOKENS}
    found["encode_ms"] = median_ms(lambda: subject.encode(sound), rounds)
    encoding = subject.encode(sound)
    found["loop_ms"] = median_ms(lambda: subject.loop(encoding), rounds, warm=1)
    try:
        found["steps_ms"] = median_ms(lambda: subject.step_by_step(encoding), rounds)
        found["steps_recorded"] = subject.steps.record
        found["why_not_recorded"] = subject.steps.why_not_recorded
        recording, subject.steps.record = subject.steps.record, False
        found["steps_unrecorded_ms"] = median_ms(lambda: subject.step_by_step(encoding), rounds)
        subject.steps.record = recording
        found["steps_to_loop"] = agreement(subject.step_by_step(encoding).tokens, subject.loop(encoding))
    except Exception as trouble:
        found["steps"] = f"failed: {trouble}"[:400]
    found["peers"] = {name: _peer(make, subject.case, sound, rounds) for name, make in PEERS.items()}
    return found


def _peer(
    make: Callable[[Case], Peer], case: Case, sound: Float32Array, rounds: int, most_s: float = 45.0
) -> dict[str, Any]:
    began = time.monotonic()
    try:
        peer = make(case)
        encoded = peer.encode(sound)
        found: dict[str, Any] = {"encode_ms": median_ms(lambda: peer.encode(sound), rounds)}
        if time.monotonic() - began < most_s:
            found["decode_ms"] = median_ms(lambda: peer.decode(encoded), max(1, rounds // 2), warm=1)
        return found
    except Exception as trouble:
        return {"missing": f"{type(trouble).__name__}: {trouble}"[:300]}
