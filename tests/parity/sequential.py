"""Long audio: our batched passages against openai-whisper's sequential ``transcribe()``, on the same weights.

Run: ``python -m tests.parity.sequential [ID …]``; needs the extra ``parity``. The reference walks the
recording in 30 s windows, each from where the last one's timestamps ended, with or without the text before as
a prompt; or it is given our boundaries (``clip_timestamps``) and no timestamps. Without temperature fallback,
so that all of it is deterministic.
"""

from __future__ import annotations

import sys
from typing import Any

import jiwer
import torch
import whisper
from captiond_engine.types import SAMPLE_RATE_HZ, Float32Array
from whisper.model import Whisper

from tests.parity import make_goldens, models
from tests.parity.recordings import Long, kept, ours, shared

PLAIN: dict[str, Any] = {
    "temperature": 0.0,
    "compression_ratio_threshold": None,
    "language": "en",
    "suppress_blank": False,
    "suppress_tokens": [],
    "length_penalty": 1.0,  # ranks nothing here; without it an empty text divides by 0
    "verbose": None,
}


def reference_model() -> Whisper:
    checkpoint = models.bundled_checkpoint()
    return make_goldens.reference_model(checkpoint.config, checkpoint.tensors)


def sequential(model: Whisper, pcm: Float32Array, **options: Any) -> str:
    """The reference's ``transcribe()``."""
    with torch.no_grad():
        return str(whisper.transcribe(model, pcm, **(PLAIN | options))["text"]).strip()


def within(model: Whisper, pcm: Float32Array, spans: list[tuple[int, int]]) -> str:
    """The same, given where there is speech. Its spectrogram is that of the whole recording."""
    times = [sample / SAMPLE_RATE_HZ for span in spans for sample in span]
    return sequential(
        model, pcm, clip_timestamps=times, without_timestamps=True, condition_on_previous_text=False
    )


def word_error_rate(reference: str, hypothesis: str) -> float:
    """In per cent, lower-cased and without punctuation."""
    plain = jiwer.Compose(
        [jiwer.ToLowerCase(), jiwer.RemovePunctuation(), jiwer.RemoveMultipleSpaces(), jiwer.Strip()]
    )
    return 100 * float(jiwer.wer(plain(reference), plain(hypothesis)))


def compare(long: Long, model: Whisper) -> dict[str, str]:
    """The texts of ``long`` by how they were made."""
    told = ours(long.pcm)
    return {
        "captiond, as the card says": told.text,
        "captiond, 30 s windows": ours(long.pcm, window="full").text,
        "captiond, packed, 30 s windows": ours(long.pcm, window="full", pack=True).text,
        "reference within our segments": within(model, long.pcm, told.spans),
        "reference, sequential": sequential(model, long.pcm, condition_on_previous_text=False),
        "reference, sequential, conditioned": sequential(model, long.pcm),
    }


def main() -> None:
    wanted = sys.argv[1:]
    model = reference_model()
    print(f"{'recording':14} {'how':36} {'letters':>8} {'WER':>7} {'to captiond':>12}")
    for long in (kept(), *shared()):
        if wanted and long.id not in wanted:
            continue
        texts = compare(long, model)
        first = next(iter(texts.values()))
        print(f"{long.id:14} {'what was said':36} {len(long.text):8}")
        for how, text in texts.items():
            wer, other = word_error_rate(long.text, text), word_error_rate(first, text)
            print(f"{long.id:14} {how:36} {len(text):8} {wer:7.1f} {other:12.1f}", flush=True)


if __name__ == "__main__":
    main()
