"""What the same weights say when they hear each utterance whole: the WER that streaming is held against.

Takes an engine and clips; gives a text a clip. A single clip is decoded once, as it is; a session segment by
segment, cut where its manifest says. What is longer than the model's window is cut into windows. Uses neither
voice detection nor segmentation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from captiond_engine.engine import Engine

from daemon.bench.clips import SAMPLE_RATE_HZ, Clip, Float32Array, read_audio


def offline_texts(engine: Engine, clips: Sequence[Clip]) -> dict[Path, str]:
    """Text by the clip's path. Blocks while it decodes."""
    texts = {}
    for clip in clips:
        pieces = cut(clip, read_audio(clip.path), engine.traits.max_window)
        texts[clip.path] = " ".join(text for text in map(engine.transcribe_clip, pieces) if text)
    return texts


def cut(clip: Clip, pcm: Float32Array, longest: int) -> Iterator[Float32Array]:
    """The pieces of ``pcm`` [samples] that are decoded one by one, none longer than ``longest``."""
    for start_s, end_s in clip.cuts or ((0.0, len(pcm) / SAMPLE_RATE_HZ),):
        start, end = round(start_s * SAMPLE_RATE_HZ), round(end_s * SAMPLE_RATE_HZ)
        for at in range(start, end, longest):
            yield pcm[at : min(end, at + longest)]
