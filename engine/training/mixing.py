"""What training hears: utterances laid into a window, and the rooms, lines and noises that they come through.

Everything is drawn from one `random.Random` and one NumPy generator, so a seed tells a window.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import soxr

from engine.training.grammar import Grammar, Sentence
from engine.training.humans import KEPT_SPEAKER
from engine.training.noises import anew, coloured, levelled
from engine.training.store import LEVEL_RMS, SAMPLE_RATE, Store, Utterance

LONGEST_SAMPLES = 30 * SAMPLE_RATE
WORD_GAPS_S = (0.02, 0.08, 0.15, 0.3)
Words = list[tuple[float, float]]


@dataclass
class Said:
    """An utterance in a window: float32 samples, its text, and (start, end) of each word in seconds where
    known.
    """

    samples: np.ndarray
    text: str
    words: Words | None = None


@dataclass
class Window:
    """`spoken` holds (start, end, text, word times) of each utterance, in seconds from the window's start."""

    samples: np.ndarray
    spoken: list[tuple[float, float, str, Words | None]] = field(default_factory=list)


class Mix(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often what happens. Shares are of all windows; `strength` scales every distortion."""

    longest_s: tuple[float, ...] = (8.0,)  # drawn for each window
    several: float = 0.15  # more than one utterance, where there is room
    no_speech: float = 0.08
    cut: float = 0.25  # ends between two words, as a live window does
    padded: float = 0.05  # to 30 s
    human: float = 0.12
    noisy: float = 0.75
    steady: float = 0.1  # of the noisy: in white, pink or otherwise coloured noise, made anew each time
    strength: float = 1.0


class Mixer:
    def __init__(self, folder: Path, seed: int) -> None:
        self.r, self.g = random.Random(seed), np.random.default_rng(seed)
        self._spoken, self._noise, self._human = (Store(folder, name) for name in ("train", "noise", "human"))
        for name, step, store in zip(("train", "noise", "human"), (1, 2, 3), self._stores(), strict=True):
            if not store.utterances:
                raise FileNotFoundError(
                    f"{folder} has no {name}_*.jsonl: step {step} of README.md makes them"
                )
        self._grammar = Grammar()
        self._words: dict[str, dict[str, list[Utterance]]] = {}
        for word in self._human.utterances:
            if KEPT_SPEAKER not in word.voice:
                self._words.setdefault(word.voice, {}).setdefault(word.text, []).append(word)
        self._sounds: dict[str, list[Utterance]] = {}
        for sound in self._noise.utterances:
            self._sounds.setdefault(sound.voice, []).append(sound)
        self._digit_speakers = [voice for voice in self._words if voice.startswith("fsdd/")]
        self._prompt_speakers = [voice for voice in self._words if voice.startswith("asterisk/")]

    def _stores(self) -> tuple[Store, Store, Store]:
        return self._spoken, self._noise, self._human

    def text(self) -> str:
        return self.r.choice(self._spoken.utterances).text

    def window(self, mix: Mix) -> Window:
        longest = self.r.choice(mix.longest_s)
        if self.r.random() < mix.no_speech:
            return Window(self._nothing_said(min(longest, self.r.choice((2.0, 5.0, 10.0, 28.0)))))
        window = self._laid(mix, longest)
        window.samples = self._through(window.samples, mix.strength)
        if self.r.random() < mix.noisy:
            window.samples = self._in_noise(window, mix.steady)
        level = 10 ** (self.r.uniform(-24, 8) / 20)
        window.samples = np.clip(window.samples * level, -1, 1).astype(np.float32)
        return window

    # --- what is said ---

    def _laid(self, mix: Mix, longest_s: float) -> Window:
        r = self.r
        count = r.choice([2, 2, 3, 3, 4, 5, 6, 7, 8]) if r.random() < mix.several else 1
        parts = [silence(r.choice([0, 0, 0.05, 0.2, r.uniform(0, 1.0)]))]
        at = len(parts[0]) / SAMPLE_RATE
        window = Window(parts[0])
        for i in range(count):
            said = self._said(mix, last=i == count - 1)
            seconds = len(said.samples) / SAMPLE_RATE
            if i:
                pause = r.choice([0.15, 0.3, 0.5, 0.8, r.uniform(0.1, 2)])
                if at + pause + seconds > longest_s - 0.5:
                    break
                parts.append(silence(pause))
                at += pause
            words = None if said.words is None else [(a + at, b + at) for a, b in said.words]
            window.spoken.append((at, at + seconds, said.text, words))
            parts.append(said.samples * 10 ** (r.uniform(-4, 4) / 20))
            at += seconds
        parts.append(silence(r.choice([0, 0.1, 0.3, r.uniform(0, 1.0)])))
        window.samples = np.concatenate(parts)
        return window

    def _said(self, mix: Mix, *, last: bool) -> Said:
        r = self.r
        if r.random() < mix.human:
            return self._by_words()
        utterance = r.choice(self._spoken.utterances)
        said = Said(self._spoken.samples(utterance), utterance.text, utterance.words)
        if last and said.words and r.random() < mix.cut:
            said = cut_short(said, r)
        return self._sped(said) if r.random() < 0.5 * max(mix.strength, 0.4) else said

    def _by_words(self) -> Said:
        """A sentence laid together from one person's words."""
        r = self.r
        if self._prompt_speakers and r.random() < 0.3:
            known = self._words[r.choice(self._prompt_speakers)]
            text = self._sayable(known)
        else:
            known = self._words[r.choice(self._digit_speakers)]
            text = " ".join(r.choice(list(known)) for _ in range(r.randint(1, 8))) + "."
        gap, pitch, parts, words, at = r.choice(WORD_GAPS_S), r.uniform(0.85, 1.15), [], [], 0.0
        for word in text.rstrip(".?").replace(",", "").split():
            sound = self._human.samples(r.choice(known[word]))
            sound = soxr.resample(sound, SAMPLE_RATE, SAMPLE_RATE * pitch, quality="LQ") * r.uniform(0.7, 1.3)
            seconds, pause = len(sound) / SAMPLE_RATE, gap * r.uniform(0.3, 1.7)
            words.append((at, at + seconds))
            parts += [sound, silence(pause)]
            at += seconds + pause
        return Said(np.concatenate(parts[:-1]), text[0].upper() + text[1:], words)

    def _sayable(self, known: dict[str, list[Utterance]]) -> str:
        """A sentence of the grammar that has no other words."""
        spelled = {word.lower(): word for word in known}
        while True:
            text = self._grammar.sentence(self.r).text
            bare = text.rstrip(".?").replace(",", "").split()
            if not all(word in known or word.lower() in spelled for word in bare):
                continue
            said = " ".join(w if w in known else spelled[w.lower()] for w in bare) + text[-1]
            if not Sentence("digits", said).kept_for_tests:
                return said

    def _sped(self, said: Said) -> Said:
        factor = self.r.uniform(0.86, 1.15)  # tempo and pitch together; examples.py bends formants apart
        samples = soxr.resample(said.samples, SAMPLE_RATE, SAMPLE_RATE * factor, quality="LQ")
        words = None if said.words is None else [(a * factor, b * factor) for a, b in said.words]
        return Said(samples.astype(np.float32), said.text, words)

    # --- where it is said ---

    def _through(self, samples: np.ndarray, strength: float) -> np.ndarray:
        """A room and a line, by chance: reverberation, low-pass, high-pass, tilt."""
        r, n = self.r, len(samples)
        room, line = r.random() < 0.25 * strength, r.random() < 0.3 * strength
        if not (room or line) or n < SAMPLE_RATE // 10:
            return samples
        size = 1 << (n + SAMPLE_RATE // 2).bit_length()
        spectrum = np.fft.rfft(samples, size)
        hertz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
        if room:
            length = int(SAMPLE_RATE * r.uniform(0.08, 0.45))
            tail = self.g.standard_normal(length) * np.exp(-6.9 * np.arange(length) / length)
            tail *= r.uniform(0.1, 0.6) / np.sqrt((tail**2).sum())
            tail[0] += 1
            spectrum *= np.fft.rfft(tail, size)
        if line:
            kind = r.random()
            if kind < 0.45:
                spectrum /= np.sqrt(1 + (hertz / r.choice([3400, 3900, 4000, 5500, 7000])) ** 8)
            elif kind < 0.75:
                spectrum /= np.sqrt(1 + (r.uniform(80, 350) / np.maximum(hertz, 1)) ** 4)
            else:
                spectrum *= np.maximum(hertz, 50) ** r.uniform(-0.4, 0.4)
        out = np.fft.irfft(spectrum, size)[:n]
        return (out * np.sqrt((samples**2).sum() / ((out**2).sum() + 1e-9))).astype(np.float32)

    def _in_noise(self, window: Window, steady: float) -> np.ndarray:
        r, samples = self.r, window.samples
        low, high = r.choice([(2, 12), (5, 15), (5, 20), (8, 22), (20, 45)])
        spoken = max(0.5, sum(end - start for start, end, _, _ in window.spoken)) * SAMPLE_RATE
        rms = np.sqrt((samples**2).sum() / spoken) + 1e-6
        kind = r.random()
        if kind < steady:
            noise = levelled(coloured(self.g, len(samples)))
        elif kind < steady + 0.12 * (1 - steady):
            noise = self._babble(len(samples))
        else:
            noise = self.noise(len(samples))
        return samples + noise * (rms * 10 ** (-r.uniform(low, high) / 20) / LEVEL_RMS)

    def noise(self, length: int) -> np.ndarray:
        """float32 [length] at about `LEVEL_RMS`; short sounds are repeated with pauses.

        Made anew, or of a recording: any of them is as likely, however many pieces it has.
        """
        r, out = self.r, np.zeros(length, np.float32)
        if r.random() < 0.25:
            return anew(self.g, length)
        sound = self._noise.samples(r.choice(self._sounds[r.choice(list(self._sounds))]))
        if r.random() < 0.5:  # larger and smaller beasts and machines
            sound = soxr.resample(sound, SAMPLE_RATE, SAMPLE_RATE * r.uniform(0.7, 1.4), quality="LQ")
        if len(sound) >= 10 * SAMPLE_RATE:
            start = r.randrange(len(sound))
            return np.resize(np.roll(sound, -start), length)
        at = r.randrange(SAMPLE_RATE // 2)
        while at < length:
            piece = sound[: length - at]
            out[at : at + len(piece)] += piece
            at += len(sound) + int(r.choice([0, 0.1, 0.5, 2]) * r.random() * SAMPLE_RATE) + 1
        return out

    def _babble(self, length: int) -> np.ndarray:
        out, voices = np.zeros(length, np.float32), self.r.randint(3, 7)
        for _ in range(voices):
            at = 0
            while at < length:
                spoken = self._spoken.samples(self.r.choice(self._spoken.utterances))
                piece = spoken[self.r.randrange(max(1, len(spoken) // 2)) :][: length - at]
                out[at : at + len(piece)] += piece
                at += len(piece)
        return out / voices**0.5

    def _nothing_said(self, longest_s: float) -> np.ndarray:
        """Silence, or one or two noises from a whisper to very loud, with the gaps and onsets that a
        detector lets through.
        """
        r, length = self.r, int(SAMPLE_RATE * self.r.uniform(0.4, longest_s))
        samples = np.zeros(length, np.float32)
        if r.random() < 0.12:
            return samples
        for _ in range(r.choice([1, 1, 2])):
            samples += self.noise(length) * 10 ** (r.uniform(-50, 12) / 20)
        if r.random() < 0.3:
            edge = r.randrange(length)
            samples[: edge if r.random() < 0.5 else 0] *= 0.01
        return np.clip(samples, -1, 1)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(int(SAMPLE_RATE * seconds), np.float32)


def cut_short(said: Said, r: random.Random) -> Said:
    """Up to some word, as a live window ends: without what comes after, also without its comma."""
    spoken = said.text.split()
    if said.words is None or len(said.words) != len(spoken) or len(spoken) < 2:
        return said
    kept = r.randint(1, len(spoken) - 1)
    gap_start, gap_end = said.words[kept - 1][1], said.words[kept][0]
    end = gap_start + r.uniform(0.2, 1.0) * max(0.0, gap_end - gap_start) + r.choice([0.0, 0.0, 0.04])
    if end < 0.25:
        return said
    text = " ".join(spoken[:kept]).rstrip(",")
    return Said(said.samples[: int(end * SAMPLE_RATE)], text, said.words[:kept])
