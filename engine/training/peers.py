"""Step 9, `python -m engine.training.peers MODEL`: the same text in openai-whisper, transformers and
faster-whisper.

MODEL is a folder of export.py. Every program decodes the same windows of 30 s, greedily and without
timestamps, in float32; CTranslate2 gets the model by its own converter. What differs is shown, and the exit
status is 1 if anything does.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import click
import numpy as np
import torch
import whisper

from engine.training.evaluate import Clip, from_kept_voices, from_manifest
from engine.training.export import NO_TIMESTAMPS, START

Transcriber = Callable[[np.ndarray], str]
LONGEST_TOKENS = 200


def openai_whisper(model: Path) -> Transcriber:
    loaded = whisper.load_model(str(model / "model.pt"), device="cpu")
    options = whisper.DecodingOptions(
        language="en", without_timestamps=True, fp16=False, suppress_tokens="", suppress_blank=False
    )

    def transcribe(samples: np.ndarray) -> str:
        mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(samples))
        return str(whisper.decode(loaded, mel, options).text)

    return transcribe


def transformers(model: Path) -> Transcriber:
    from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizerFast

    loaded = WhisperForConditionalGeneration.from_pretrained(model, torch_dtype=torch.float32).eval()
    extractor = WhisperFeatureExtractor.from_pretrained(model)
    tokenizer = WhisperTokenizerFast.from_pretrained(model)

    def transcribe(samples: np.ndarray) -> str:
        features = extractor(samples, sampling_rate=16000, return_tensors="pt").input_features
        start = torch.tensor([[START, NO_TIMESTAMPS]])
        said = loaded.generate(
            features,
            decoder_input_ids=start,
            forced_decoder_ids=None,
            max_length=LONGEST_TOKENS,
            num_beams=1,
            do_sample=False,
        )
        return str(tokenizer.decode(said[0], skip_special_tokens=True)).strip()

    return transcribe


def faster_whisper(model: Path, scratch: Path) -> Transcriber:
    import ctranslate2
    from faster_whisper.feature_extractor import FeatureExtractor
    from tokenizers import Tokenizer

    out = scratch / "ctranslate2"
    ctranslate2.converters.TransformersConverter(str(model), copy_files=["tokenizer.json"]).convert(str(out))
    loaded = ctranslate2.models.Whisper(str(out), device="cpu", compute_type="float32")
    extractor, tokenizer = FeatureExtractor(), Tokenizer.from_file(str(model / "tokenizer.json"))

    def transcribe(samples: np.ndarray) -> str:
        features = extractor(whisper.pad_or_trim(samples))[:, :3000].astype(np.float32)
        view = ctranslate2.StorageView.from_array(np.ascontiguousarray(features[None]))
        said = loaded.generate(
            view,
            [[START, NO_TIMESTAMPS]],
            beam_size=1,
            max_length=LONGEST_TOKENS,
            suppress_blank=False,
            suppress_tokens=[],
        )
        return str(tokenizer.decode(said[0].sequences_ids[0])).strip()

    return transcribe


def compared(clips: list[Clip], programs: dict[str, Transcriber]) -> int:
    """How many clips are not the same everywhere."""
    different = 0
    for clip in clips:
        texts = {name: transcribe(clip.samples.astype(np.float32)) for name, transcribe in programs.items()}
        if len(set(texts.values())) > 1:
            different += 1
            print(f"{clip.condition}: {clip.text}")
            for name, text in texts.items():
                print(f"    {name:16} {text}")
    print(f"the same text in {', '.join(programs)}: {len(clips) - different} of {len(clips)}")
    return different


@click.command()
@click.argument("model", type=click.Path(path_type=Path, exists=True))
@click.option("--folder", type=click.Path(path_type=Path), default=Path("training-data"), show_default=True)
@click.option(
    "--manifest", type=click.Path(path_type=Path, exists=True), help="Recordings instead of --folder."
)
@click.option("--count", default=60, show_default=True)
def main(model: Path, folder: Path, manifest: Path | None, count: int) -> None:
    kept = from_kept_voices(folder, count * 4 // 9)  # clean, in noise, and a quarter as many long windows
    clips = islice(from_manifest(manifest, "kept"), count) if manifest else kept
    with tempfile.TemporaryDirectory() as scratch:
        programs = {
            "openai-whisper": openai_whisper(model),
            "transformers": transformers(model),
            "faster-whisper": faster_whisper(model, Path(scratch)),
        }
        raise SystemExit(compared(list(clips), programs) > 0)


if __name__ == "__main__":
    main()
