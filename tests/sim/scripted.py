"""A model, a device, a detector and audio that follow one script of words.

Takes: words with their place in samples. Gives: what Whisper would have said of any window, in no time
or in a chosen time, with chosen errors. Stands in for ``whisper.model`` behind the same protocols, so
that streams, scheduler and daemon run for true without MAX. Knows nothing of streams or sockets.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from captiond_engine.errors import DeviceError
from captiond_engine.speech_model import ModelTraits, WordPiece
from captiond_engine.types import SAMPLE_RATE_HZ, Decoding, Float32Array, Job, Window, samples_from_ms

FIRST_TOKEN = 100


@dataclass(frozen=True, slots=True)
class ScriptWord:
    """``text`` without leading space, said in [start, end)."""

    text: str
    start: int
    end: int


Script = Sequence[ScriptWord]


def say(text: str, at: int = SAMPLE_RATE_HZ, word: int = samples_from_ms(300)) -> tuple[ScriptWord, ...]:
    """The words of ``text`` one after another from sample ``at``, each ``word`` samples long."""
    return tuple(ScriptWord(t, at + i * word, at + (i + 1) * word) for i, t in enumerate(text.split()))


def scripted_traits(**changes: object) -> ModelTraits:
    """Traits of a small English model with fitted windows, which keep scripted tests cheap, one a segment."""
    plain: dict[str, object] = {
        "name": "scripted",
        "window_partial": "fitted",
        "window_final": "fitted",
        "pack": False,
    }
    return ModelTraits(**(plain | changes))  # type: ignore[arg-type]


class ScriptedTokenizer:
    """One token a word. Tokens are given out in the order in which words are first seen."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._words: list[str] = []

    def encode(self, text: str) -> list[int]:
        return [self._id(word) for word in text.split()]

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(f" {self._words[token - FIRST_TOKEN]}" for token in tokens)

    def split_words(self, tokens: Sequence[int]) -> list[WordPiece]:
        return [WordPiece(self.decode([token]), (token,)) for token in tokens]

    def _id(self, word: str) -> int:
        if word not in self._ids:
            self._ids[word] = FIRST_TOKEN + len(self._words)
            self._words.append(word)
        return self._ids[word]


class ScriptedModel:
    """What is heard in a window of the script, as a pure function of the job.

    ``unstable``: the share of partial passes' last two words that come out wrong, different from pass
    to pass. ``unstable_finals``: the share of unprompted finals whose first word comes out wrong, so
    that a final contradicts what was committed. Both are decided by a hash of the job, never by chance.
    A word is heard when its middle lies in the window; a word of which less is heard at the end of a
    partial pass gives its first half. ``timed``: it tells when each token was said, as the script has it.
    """

    def __init__(
        self,
        script: Script | Mapping[int, Script],
        tokenizer: ScriptedTokenizer | None = None,
        *,
        unstable: float = 0.0,
        unstable_finals: float = 0.0,
        probability: float = 0.99,
        timed: bool = False,
    ) -> None:
        self.tokenizer = tokenizer or ScriptedTokenizer()
        self._script = script
        self._unstable = unstable
        self._unstable_finals = unstable_finals
        self._probability = probability
        self._timed = timed

    def decode(self, job: Job) -> Decoding:
        """The decoding of one job; text tokens that continue the job's forced prefix."""
        heard = self._heard(job)
        texts = [text for text, _ in heard]
        prefix = job.payload.prompt.prefix
        tokens = tuple(self.tokenizer.encode(" ".join(texts[len(prefix) :])))
        logs = (float(np.log(self._probability)),) * len(tokens)
        starts, heeded = self._times(job.payload, [word for _, word in heard]) if self._timed else ((), ())
        return Decoding(
            starts=starts,
            heeded=heeded,
            tokens=tokens,
            log_probabilities=logs,
            sum_log_probability=sum(logs),
            no_speech_probability=0.01 if texts else 0.95,
            language="en",
        )

    @staticmethod
    def _times(window: Window, words: Sequence[ScriptWord]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Where each word begins in the window and the last one ends, and what was heeded: its end."""
        length = window.end - window.start
        starts = [min(length, max(0, word.start - window.start)) for word in words]
        ends = [min(length, word.end - window.start) for word in words]
        return (*starts, *ends[-1:]), tuple(max(0, end - 1) for end in ends)

    def _heard(self, job: Job) -> list[tuple[str, ScriptWord]]:
        window = job.payload
        script = self._script.get(job.slot, ()) if isinstance(self._script, Mapping) else self._script
        texts: list[str] = []
        words: list[ScriptWord] = []
        for word in script:
            middle = (word.start + word.end) // 2
            if window.start <= middle < window.end:
                texts.append(word.text)
                words.append(word)
            elif job.kind == "partial" and word.start < window.end <= middle and len(word.text) > 1:
                texts.append(word.text[: len(word.text) // 2])
                words.append(word)
        chance = _share(f"{job.slot}:{job.kind}:{window.start}:{window.end}")
        if job.kind == "partial" and chance < self._unstable:
            texts[-2:] = [f"{text}{window.end % 7}" for text in texts[-2:]]
        if job.kind == "final" and not window.prompt.prefix and texts and chance < self._unstable_finals:
            texts[0] = f"not-{texts[0]}"
        return list(zip(texts, words, strict=True))


class ScriptedDevice(ScriptedModel):
    """Runs jobs by the script, taking simulated time, and failing where it is told to.

    ``encode_s`` and ``decode_s`` pass once per call, and ``cost_s(jobs)`` besides. ``fail_calls``: numbers of
    the calls (from 0) that raise DeviceError, or a function of the number. ``calls`` keeps every batch that
    was asked. ``on_probe`` is called with each probe, and may wait or raise; ``probes`` counts them.
    """

    def __init__(
        self,
        script: Script | Mapping[int, Script],
        tokenizer: ScriptedTokenizer | None = None,
        *,
        encode_s: float = 0.0,
        decode_s: float = 0.0,
        cost_s: Callable[[Sequence[Job]], float] = lambda jobs: 0.0,
        fail_calls: Collection[int] | Callable[[int], bool] = (),
        unstable: float = 0.0,
        unstable_finals: float = 0.0,
        probability: float = 0.99,
        timed: bool = False,
        on_probe: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(
            script,
            tokenizer,
            unstable=unstable,
            unstable_finals=unstable_finals,
            probability=probability,
            timed=timed,
        )
        self._encode_s = encode_s
        self._decode_s = decode_s
        self._cost_s = cost_s
        self._fails = fail_calls if callable(fail_calls) else fail_calls.__contains__
        self._running = False
        self._on_probe = on_probe
        self.calls: list[tuple[Job, ...]] = []
        self.probes = 0

    async def probe(self) -> None:
        """Answers at once, unless ``on_probe`` does otherwise. Refused while a call runs, as ``run`` is."""
        if self._running:
            raise AssertionError("the device was probed while a call was running")
        self.probes += 1
        if self._on_probe is None:
            return
        self._running = True
        try:
            await self._on_probe()
        finally:
            self._running = False

    async def run(self, jobs: Sequence[Job]) -> list[Decoding]:
        """One decoding per job. Refuses to be called while another call runs."""
        if self._running:
            raise AssertionError("the device was called while a call was running")
        number = len(self.calls)
        self.calls.append(tuple(jobs))
        self._running = True
        try:
            await asyncio.sleep(self._encode_s + self._decode_s + self._cost_s(jobs))
        finally:
            self._running = False
        if self._fails(number):
            raise DeviceError(f"the scripted device fails on call {number}.")
        return [self.decode(job) for job in jobs]


class ScriptedDetector:
    """A voice detector that knows the script: 0.95 where a word covers most of a window, else 0.05.

    It counts the windows that it is given, so it must be given every window of the stream, in order.
    """

    def __init__(self, script: Script, window: int = samples_from_ms(30)) -> None:
        self.window = window
        self._script = script
        self._position = 0

    def probability(self, window: Float32Array) -> float:
        start, end = self._position, self._position + len(window)
        self._position = end
        voiced = sum(max(0, min(end, word.end) - max(start, word.start)) for word in self._script)
        return 0.95 if voiced * 2 > len(window) else 0.05

    def reset(self) -> None:
        """Forget the sound heard so far; the position goes on, as time does."""

    def skip(self, samples: int) -> None:
        """A gap in the timeline: ``samples`` that are never given."""
        self._position += samples


class LoudDetector:
    """Hears voice in every window with sound in it. For timelines with gaps, which no counting follows."""

    def __init__(self, window: int = samples_from_ms(30)) -> None:
        self.window = window

    def probability(self, window: Float32Array) -> float:
        return 0.95 if float(np.abs(window).mean()) > 0.01 else 0.05

    def reset(self) -> None:
        """Nothing is remembered."""


def speech_audio(
    script: Script, length: int | None = None, *, pitch_hz: float = 120.0, level: float = 0.3
) -> Float32Array:
    """Float32 PCM in which webrtcvad hears voice where the script has words, digital silence elsewhere.

    Harmonics of a gliding pitch under three vowel formants (values of a Peterson and Barney "ah"), with
    10 ms ramps. ``length``: samples; by default one second after the last word.
    """
    last = max((word.end for word in script), default=0)
    pcm = np.zeros(last + SAMPLE_RATE_HZ if length is None else length, np.float32)
    for word in script:
        end = min(word.end, len(pcm))
        if end > word.start:
            pcm[word.start : end] += _vowel(end - word.start, word.start, pitch_hz, level)
    return pcm


def _vowel(samples: int, at: int, pitch_hz: float, level: float) -> Float32Array:
    time = (np.arange(samples) + at) / SAMPLE_RATE_HZ
    phase = 2 * np.pi * pitch_hz * time + 0.8 * np.sin(2 * np.pi * 3.0 * time)
    voice = np.zeros(samples)
    for number in range(1, int(4_000 / pitch_hz)):
        hz = number * pitch_hz
        gain = sum(
            peak / (1 + ((hz - formant) / width) ** 2)
            for formant, width, peak in ((730, 90, 1.0), (1_090, 110, 0.5), (2_440, 160, 0.25))
        )
        voice += (gain + 0.02) * np.sin(number * phase)
    ramp = np.minimum(1.0, np.minimum(np.arange(samples), np.arange(samples)[::-1]) / 160)
    peak = max(1e-9, float(np.abs(voice).max()))
    return np.asarray(voice / peak * ramp * level, np.float32)


def _share(key: str) -> float:
    """A number in [0, 1) that depends on ``key`` alone."""
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
