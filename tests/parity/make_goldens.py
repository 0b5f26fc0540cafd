"""Writes tests/parity/goldens/*.json with openai-whisper. Run: ``python -m tests.parity.make_goldens``

Needs the extra ``parity``. For the bundled model: the reference's own ``decode`` on the clips of
tests/data/audio. For seeded random weights: its greedy choice, three rows with prompts and audio of unequal
length. Of the large arrays only samples at fixed places are kept.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import whisper
from captiond_engine.models import BUNDLED
from captiond_engine.types import Float32Array
from captiond_engine.whisper.config import WhisperConfig
from captiond_engine.whisper.weights import read_checkpoint
from whisper.model import ModelDimensions, Whisper

from tests.parity import clips, seeded

GOLDENS = Path(__file__).parent / "goldens"
NEW_TOKENS = 40
# Two tokens closer than this are a tie in float32: there the reference differs from itself, with and without
# its own cache. Seeds are chosen so that no choice hangs on one.
SMALLEST_GAP = 1e-4


def reference_model(config: WhisperConfig, tensors: dict[str, Float32Array]) -> Whisper:
    """openai-whisper with exactly these weights, float32 on the CPU."""
    dims = {name: getattr(config, name) for name in ModelDimensions.__dataclass_fields__}
    model = Whisper(ModelDimensions(**dims))
    model.load_state_dict({name: torch.from_numpy(array) for name, array in tensors.items()}, strict=True)
    return model.eval()


@torch.no_grad()
def greedy(
    model: Whisper, encoded: torch.Tensor, prompt: tuple[int, ...], end: int, limit: int
) -> dict[str, Any]:
    """The reference decoder with its own K/V cache, always choosing the likeliest token."""
    cache, hooks = model.install_kv_cache_hooks()
    tokens: list[int] = []
    log_probabilities: list[float] = []
    fed = torch.tensor([prompt])
    first: Float32Array | None = None
    smallest_gap = float("inf")
    while len(tokens) < limit and (not tokens or tokens[-1] != end):
        logits = model.decoder(fed, encoded, kv_cache=cache)[0, -1]
        first = logits.numpy().copy() if first is None else first
        tokens.append(int(logits.argmax()))
        best = logits.topk(2).values
        smallest_gap = min(smallest_gap, float(best[0] - best[1]))
        log_probabilities.append(float(logits.log_softmax(-1)[tokens[-1]]))
        fed = torch.tensor([[tokens[-1]]])
    for hook in hooks:
        hook.remove()
    return {
        "tokens": tokens,
        "log_probabilities": log_probabilities,
        "first_logits": first,
        "smallest_gap": smallest_gap,
    }


def decode_clip(model: Whisper, pcm: Float32Array) -> tuple[Any, Float32Array, Float32Array]:
    """The reference's DecodingResult, mel and encoder output of one clip in a 30 s window."""
    mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(pcm))
    with torch.no_grad():
        encoded = model.encoder(mel[None])[0].numpy()
    options = whisper.DecodingOptions(
        language="en",
        without_timestamps=True,
        fp16=False,
        suppress_blank=False,
        suppress_tokens=[],
        length_penalty=1.0,  # ranks nothing here; without it an empty text divides by 0
    )
    return whisper.decode(model, mel, options), mel.numpy(), encoded


def _rounded(array: Float32Array) -> list[float]:
    return [float(f"{value:.7g}") for value in array]


def make_bundled() -> dict[str, Any]:
    checkpoint = read_checkpoint(BUNDLED / "demo-en")
    model = reference_model(checkpoint.config, checkpoint.tensors)
    rows = {}
    for clip in clips.bundled():
        result, mel, encoded = decode_clip(model, clip.pcm)
        rows[clip.id] = {
            "tokens": result.tokens,
            "text": result.text,
            "no_speech": result.no_speech_prob,
            "average_log_probability": result.avg_logprob,
            "mel": _rounded(seeded.sampled(mel)),
            "encoded": _rounded(seeded.sampled(encoded)),
        }
    return {"reference": f"openai-whisper {whisper.__version__}, torch {torch.__version__}", "clips": rows}


def make_seeded(size: str) -> dict[str, Any]:
    config = seeded.config_of(size)
    model = reference_model(config, seeded.tensors_of(size))
    rows = []
    for row, prompt in enumerate(seeded.PROMPTS):
        with torch.no_grad():
            encoded = model.encoder(torch.from_numpy(seeded.mels()[row : row + 1]))
        answer = greedy(model, encoded, prompt, seeded.END, NEW_TOKENS)
        if answer["smallest_gap"] < SMALLEST_GAP:
            raise SystemExit(
                f"{size}: row {row} hangs on a tie of {answer['smallest_gap']:.1g}; choose another seed"
            )
        rows.append(
            {
                "tokens": answer["tokens"],
                "log_probabilities": _rounded(np.array(answer["log_probabilities"])),
                "first_logits": _rounded(seeded.sampled(answer["first_logits"])),
                "encoded": _rounded(seeded.sampled(encoded[0].numpy())),
            }
        )
    return {"reference": f"openai-whisper {whisper.__version__}, torch {torch.__version__}", "rows": rows}


def main() -> None:
    GOLDENS.mkdir(exist_ok=True)
    made = {"demo-en": make_bundled(), **{size: make_seeded(size) for size in seeded.SIZES}}
    for name, content in made.items():
        path = GOLDENS / f"{name}.json"
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
