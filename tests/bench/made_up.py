"""Rounds that nobody ran, for the tests of what is made of them."""

from __future__ import annotations

from engine.bench.apart import Round
from engine.bench.contenders import Entry

OURS = Entry("captiond", "float32")
OURS_INT8 = Entry("captiond", "int8")
OPENAI = Entry("openai-whisper", "float32", 2)
EXACT_1, EXACT_2 = Entry("faster-whisper", "float32", 1), Entry("faster-whisper", "float32", 2)
INT8_1, INT8_2 = Entry("faster-whisper", "int8", 1), Entry("faster-whisper", "int8", 2)


def made_up(mel_s: float, encode_s: float, decode_s: float, *, tokens: tuple[int, ...] = (1, 2, 3)) -> Round:
    return Round(mel_s, encode_s, decode_s, 2.0, [list(tokens), [4, 5, 6]], 300.0, 200.0)


def rounds() -> dict[Entry, list[Round]]:
    """Two rows, three rounds, in seconds of both rows."""
    return {
        OURS: [made_up(0.02, 0.2, 0.4), made_up(0.04, 0.2, 0.2), made_up(0.02, 0.2, 0.6)],
        OURS_INT8: [made_up(0.02, 0.2, 0.1, tokens=(1, 9, 3))] * 3,
        OPENAI: [made_up(0.1, 0.3, 1.5)] * 3,
        EXACT_1: [made_up(0.05, 0.4, 0.5)] * 3,
        EXACT_2: [made_up(0.05, 0.2, 0.6)] * 3,
        INT8_1: [made_up(0.05, 0.4, 0.1)] * 3,
        INT8_2: [made_up(0.05, 0.1, 0.2)] * 3,
    }
