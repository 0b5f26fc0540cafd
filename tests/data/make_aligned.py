"""Builds ``aligned``: speech whose words' times are known, because the synthesiser that spoke them tells.

Takes nothing but Festival with two of its voices (Debian: festival, festvox-kallpc16k, festvox-us-slt-hts).
Gives one 16 kHz recording and a manifest with the true start and end of each word. Knows no model: which
sentences are spoken is fixed below, whatever anything makes of them.

    python tests/data/make_aligned.py tests/data/aligned
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE_HZ = 16_000
VOICES = ("kal_diphone", "cmu_us_slt_arctic_hts")  # by turns
LEAD_IN_S, TAIL_S = 1.0, 1.5
PAUSES_S = (0.8, 1.4, 1.0, 2.0)  # between sentences, by turns
LOUDNESS = 0.08  # root mean square of a sentence
FLOOR_DBFS = -65  # a room's noise, so that nothing is digitally silent
SENTENCES = (
    "Turn on the kitchen lights at half past six.",
    "The meeting is on Monday at nine.",
    "It will be cold and windy in London tomorrow.",
    "My number is four seven two nine one.",
    "What's the weather in Paris this weekend?",
    "Set a timer for twenty five minutes.",
    "Remind me at eight to call Anna.",
    "The train leaves at quarter to ten.",
    "Play some jazz in the living room.",
    "Nineteen plus thirty is forty nine.",
    "The temperature is eleven degrees.",
    "Send an email to Sarah about the report.",
    "It was warm and sunny on Friday.",
    "The password is one eight zero three.",
    "We will meet at five on Saturday.",
    "Turn off the radio and close the window.",
    "The price is two hundred dollars.",
    "It was March twenty first.",
    "Is it going to snow in Boston?",
    "Open the door, please.",
)
SPEAK = """
(voice_{voice})
(set! u (Utterance Text "{text}"))
(utt.synth u)
(utt.wave.resample u 16000)
(utt.save.wave u "{wav}" 'riff)
(mapcar
  (lambda (w) (format t "%s %f %f\\n" (item.name w) (item.feat w 'word_start) (item.feat w 'word_end)))
  (utt.relation.items u 'Word))
"""

Words = list[tuple[float, float]]


def speak(text: str, voice: str, folder: Path) -> tuple[NDArray[np.float32], Words]:
    """One sentence: its samples, and start and end of each of its words in seconds."""
    script, wav = folder / "speak.scm", folder / "spoken.wav"
    script.write_text(SPEAK.format(voice=voice, text=text, wav=wav), encoding="utf-8")
    told = subprocess.run(["festival", "--batch", script], check=True, capture_output=True, text=True).stdout
    rows = [line.split() for line in told.splitlines() if line.strip()]
    times = merged([(row[0], float(row[1]), float(row[2])) for row in rows], text)
    pcm, rate_hz = soundfile.read(wav, dtype="float32")
    if rate_hz != RATE_HZ:
        raise SystemExit(f"{voice} speaks at {rate_hz} Hz; {RATE_HZ} was expected")
    return pcm * np.float32(LOUDNESS / np.sqrt(np.mean(np.square(pcm)))), times


def merged(rows: list[tuple[str, float, float]], text: str) -> Words:
    """Festival splits ``what's`` in two: one place for each word that is written."""
    times: Words = []
    for name, start, end in rows:
        if name.startswith("'"):
            times[-1] = (times[-1][0], end)
        else:
            times.append((start, end))
    if len(times) != len(text.split()):
        raise SystemExit(f"{len(times)} words were spoken of {text!r}")
    return times


def main(folder: Path) -> None:
    parts: list[NDArray[np.float32]] = [np.zeros(round(LEAD_IN_S * RATE_HZ), np.float32)]
    segments = []
    at = len(parts[0])
    with tempfile.TemporaryDirectory() as scratch:
        for number, text in enumerate(SENTENCES):
            pcm, times = speak(text, VOICES[number % len(VOICES)], Path(scratch))
            shifted = [(round(at / RATE_HZ + a, 3), round(at / RATE_HZ + b, 3)) for a, b in times]
            segments.append(
                {
                    "start": round(at / RATE_HZ, 3),
                    "end": round((at + len(pcm)) / RATE_HZ, 3),
                    "speech_start": shifted[0][0],
                    "speech_end": shifted[-1][1],
                    "text": text,
                    "words": [
                        {"text": word, "start": a, "end": b}
                        for word, (a, b) in zip(text.split(), shifted, strict=True)
                    ],
                    "voice": VOICES[number % len(VOICES)],
                }
            )
            pause_s = TAIL_S if number == len(SENTENCES) - 1 else PAUSES_S[number % len(PAUSES_S)]
            pause = np.zeros(round(pause_s * RATE_HZ), np.float32)
            parts += [pcm, pause]
            at += len(pcm) + len(pause)
    sound = np.concatenate(parts)
    noise = np.random.default_rng(5).standard_normal(len(sound)).astype(np.float32)
    sound += noise * np.float32(10 ** (FLOOR_DBFS / 20))
    soundfile.write(folder / "aligned.flac", np.clip(sound, -1, 1), RATE_HZ, subtype="PCM_16")
    row = {
        "id": "aligned",
        "path": "aligned.flac",
        "seconds": round(len(sound) / RATE_HZ, 3),
        "text": " ".join(SENTENCES),
        "source": "made by make_aligned.py with Festival's voices kal_diphone and cmu_us_slt_arctic_hts",
        "licence": "CC0",
        "segments": segments,
    }
    (folder / "manifest.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
