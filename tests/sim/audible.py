"""A model that really listens: every sound is a word, named by its length. And speech for it to hear.

Takes: passes over mels. Gives: "w3" for each sound of the third length. So what is heard does not depend on
where in a stream it comes, as with a script, and a daemon that starts anew hears the same words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from captiond_engine.types import HOP_SAMPLES, SAMPLE_RATE_HZ, Decoding, Float32Array, Job, samples_from_ms

from tests.sim.scripted import ScriptedTokenizer, ScriptWord, speech_audio

SHORTEST_MS, STEP_MS, WORDS = 200, 60, 20  # the length of "w0", and by how much each word is longer
GAP_MS = 150  # between words: less than what ends a segment
PAUSE_MS = 1_200  # between utterances: more than that
SMEAR_MS = 20  # by how much a sound seems longer in a spectrogram
LOUD_BELOW_PEAK = 1.0  # of a normalised mel, 40 dB


def words_in(mel: Float32Array) -> list[tuple[int, int]]:
    """First and last hop (half open) of each sound in ``mel``, float32 [mels, hops]."""
    level = mel.mean(axis=0)
    if level.max() < -1.0:  # the floor of a silent window is -1.5
        return []
    loud = np.concatenate([[False], level > level.max() - LOUD_BELOW_PEAK, [False]]).astype(int)
    edges = np.flatnonzero(np.diff(loud))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


class AudibleDevice:
    """``speech_model.Device`` in no time."""

    def __init__(self) -> None:
        self.tokenizer = ScriptedTokenizer()

    async def run(self, jobs: Sequence[Job]) -> list[Decoding]:
        return [self.decode(job) for job in jobs]

    async def probe(self) -> None:
        """It always answers."""

    def decode(self, job: Job) -> Decoding:
        window = job.payload
        hops = (window.end - window.start) // HOP_SAMPLES
        found = words_in(window.mel[:, :hops])
        if job.kind == "partial" and found and found[-1][1] >= hops - 1:
            found.pop()  # it is still being said
        names = [f"w{max(0, round(((b - a) * 10 - SMEAR_MS - SHORTEST_MS) / STEP_MS))}" for a, b in found]
        tokens = tuple(self.tokenizer.encode(" ".join(names[len(window.prompt.prefix) :])))
        return Decoding(tokens, (-0.1,) * len(tokens), -0.1 * len(tokens), 0.01 if names else 0.95, "en")


def spoken(*utterances: Sequence[int]) -> tuple[Float32Array, list[list[ScriptWord]]]:
    """Speech of words by number, utterances with pauses between them; and where each word lies."""
    at, placed = SAMPLE_RATE_HZ // 2, []
    for utterance in utterances:
        words = []
        for number in utterance:
            end = at + samples_from_ms(SHORTEST_MS + STEP_MS * number)
            words.append(ScriptWord(f"w{number}", at, end))
            at = end + samples_from_ms(GAP_MS)
        placed.append(words)
        at += samples_from_ms(PAUSE_MS - GAP_MS)
    return speech_audio([word for words in placed for word in words], at), placed
