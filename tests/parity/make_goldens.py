"""Writes tests/parity/goldens/*.json with openai-whisper. Run: ``python -m tests.parity.make_goldens``

Names after it make those alone. Needs the extra ``parity``. For the bundled model: the reference's own
``decode`` on the clips of tests/data/audio. For seeded random weights: its greedy choice, rows with prompts
and audio of unequal length, and the languages it hears. Of large arrays samples at fixed places are kept.
"""

from __future__ import annotations

import json
import math
import sys
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
KEPT = ("mini-v3", "tiny.en", "tiny", "base", "small")  # the cut sizes are compared live alone
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
    """Rows of the common prompts, then those of tasks and times; languages heard in the same audio."""
    model = reference_model(seeded.config_of(size), seeded.tensors_of(size))
    mels = torch.from_numpy(seeded.mels_of(size))
    with torch.no_grad():
        encoded = model.encoder(mels)
    prompts = [*seeded.prompts_of(size), *seeded.task_prompts_of(size)]
    rows = [
        _seeded_row(size, model, encoded, row % len(mels), prompt) for row, (prompt, _) in enumerate(prompts)
    ]
    made = {"reference": f"openai-whisper {whisper.__version__}, torch {torch.__version__}", "rows": rows}
    if not seeded.tokenizer_of(size).multilingual:
        return made
    _, probabilities = whisper.detect_language(model, encoded)
    return made | {"languages": [_likeliest(size, row) for row in probabilities]}


def _seeded_row(
    size: str, model: Whisper, encoded: torch.Tensor, row: int, prompt: tuple[int, ...]
) -> dict[str, Any]:
    answer = greedy(model, encoded[row : row + 1], prompt, seeded.tokenizer_of(size).end_of_text, NEW_TOKENS)
    if answer["smallest_gap"] < SMALLEST_GAP:
        raise SystemExit(
            f"{size}: row {row} hangs on a tie of {answer['smallest_gap']:.1g}; choose another seed"
        )
    return {
        "tokens": answer["tokens"],
        "log_probabilities": _rounded(np.array(answer["log_probabilities"])),
        "first_logits": _rounded(seeded.sampled(answer["first_logits"])),
        "encoded": _rounded(seeded.sampled(encoded[row].numpy())),
    }


def _likeliest(size: str, probabilities: dict[str, float]) -> list[tuple[str, float]]:
    """The ten likeliest languages, if float32 can tell the first from the second."""
    best = sorted(probabilities.items(), key=lambda item: -item[1])
    if math.log(best[0][1] / best[1][1]) < SMALLEST_GAP:
        raise SystemExit(f"{size}: two languages are equally likely; choose another seed")
    return [(code, float(f"{probability:.7g}")) for code, probability in best[:10]]


def main() -> None:
    GOLDENS.mkdir(exist_ok=True)
    wanted = sys.argv[1:] or ["demo-en", *KEPT]
    made = {name: make_bundled() if name == "demo-en" else make_seeded(name) for name in wanted}
    for name, content in made.items():
        path = GOLDENS / f"{name}.json"
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
