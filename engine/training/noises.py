"""Step 2, `python -m engine.training.noises`: what is not speech, into a store.

Made here by chance (coloured noise, hums, engines, knocks, chirps, crackle, calls with formants but no
words), and read from folders of sound effects and music, which Debian's games and instruments bring along
(README.md names the packages). ESC-10 is not among them: the model is judged by it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

from engine.training import store

RATE = store.SAMPLE_RATE
PIECE_SECONDS = 20
SHORTEST_SECONDS = 0.15
SOUND_FILES = ("*.ogg", "*.wav", "*.flac", "*.opus")
# What is said in games: acknowledgements, taunts, and names of things, which end with their language.
SAID = re.compile(r"voice|taunt|desc|/symbols/|_ack|select|_[a-z]{2}([_@][A-Za-z]+)?\.[a-z]+$", re.IGNORECASE)


def coloured(g: np.random.Generator, n: int) -> np.ndarray:
    """1/f^a noise, a from 0 to 1.6, often with a random smooth colour, often slowly swelling."""
    spectrum = np.fft.rfft(g.standard_normal(n))
    hertz = np.maximum(np.fft.rfftfreq(n, 1 / RATE), 20.0)
    shape = hertz ** -g.choice([0.0, 0.0, 0.5, 0.5, 0.8, 1.0, 1.3, 1.6])
    if g.random() < 0.6:
        shape = shape * np.exp(np.interp(hertz, np.linspace(0, RATE / 2, 12), g.normal(0, 1.0, 12)))
    sound = np.fft.irfft(spectrum * shape, n)
    return sound * swelling(g, n) if g.random() < 0.4 else sound


def swelling(g: np.random.Generator, n: int) -> np.ndarray:
    every = int(RATE * g.choice([0.05, 0.25, 0.6, 1.5]))
    knots = np.arange(0, n + every, every)
    return np.interp(np.arange(n), knots, g.uniform(0.0, 1.2, len(knots)) ** g.choice([1.0, 2.0]))


def hum(g: np.random.Generator, n: int) -> np.ndarray:
    """Mains, motors, beeps: few steady harmonics, perhaps switched on and off."""
    seconds = np.arange(n) / RATE
    base = g.choice([50.0, 60.0, 100.0, 120.0, g.uniform(80, 2500)])
    sound = sum(
        g.random() ** 2 * np.sin(2 * np.pi * base * h * seconds + g.uniform(0, 6.3)) for h in (1, 2, 3, 5, 7)
    )
    if g.random() < 0.4:
        period = g.uniform(0.15, 1.5)
        sound = sound * ((seconds % period) < period * g.uniform(0.2, 0.7))
    return sound + 0.01 * g.standard_normal(n)


def engine(g: np.random.Generator, n: int) -> np.ndarray:
    """A harmonic series whose pitch and strength wander: saws, cars, drills, vacuum cleaners."""
    wander = np.interp(np.arange(n), np.linspace(0, n, 12), g.uniform(0.7, 1.4, 12))
    phase = 2 * np.pi * np.cumsum(g.uniform(25, 220) * wander) / RATE
    strength = g.uniform(0.6, 1.0)
    sound = sum(strength**h * np.sin(h * phase + g.uniform(0, 6.3)) for h in range(1, 24))
    return sound * swelling(g, n) + g.uniform(0.1, 1.0) * coloured(g, n) / 3


def knocks(g: np.random.Generator, n: int) -> np.ndarray:
    """Struck things: decaying resonances, single or in runs; keys, steps, doors, clocks."""
    sound = 0.003 * g.standard_normal(n)
    decay, tones = g.uniform(0.004, 0.25), g.uniform(120, 5000, g.integers(1, 5))
    length = int(RATE * decay * 6)
    seconds = np.arange(length) / RATE
    at, steady = 0.0, g.uniform(0.08, 1.2)
    while True:
        at += steady if g.random() < 0.6 else g.exponential(steady)
        start = int(at * RATE)
        if start >= n:
            return sound
        rung = sum(np.sin(2 * np.pi * t * g.uniform(0.97, 1.03) * seconds) for t in tones)
        struck = (
            (rung + g.uniform(0, 2) * g.standard_normal(length))
            * np.exp(-seconds / decay)
            * g.uniform(0.2, 1)
        )
        sound[start : start + length] += struck[: n - start]


def chirps(g: np.random.Generator, n: int) -> np.ndarray:
    """Birds, crickets, sirens, squeaks: tones that glide."""
    sound = 0.003 * g.standard_normal(n)
    at, pause = 0.0, g.uniform(0.03, 0.8)
    low, high = g.uniform(400, 2500), g.uniform(2500, 7000)
    while True:
        length = int(RATE * g.uniform(0.03, 0.6))
        start = int(at * RATE)
        if start >= n:
            return sound
        glide = np.interp(np.arange(length), np.linspace(0, length, 4), g.uniform(low, high, 4))
        tone = np.sin(2 * np.pi * np.cumsum(glide) / RATE) * np.hanning(length) * g.uniform(0.2, 1)
        sound[start : start + length] += tone[: n - start]
        at += length / RATE + g.exponential(pause)


def crackle(g: np.random.Generator, n: int) -> np.ndarray:
    """Fire, rain, applause, paper: many short bursts."""
    rate = g.choice([5.0, 40.0, 300.0, 2000.0])
    bursts = np.where(g.random(n) < rate / RATE, g.exponential(1.0, n) * g.choice([-1.0, 1.0], n), 0.0)
    tail = np.exp(-np.arange(800) / g.uniform(3, 160)) * g.standard_normal(800)
    return np.convolve(bursts, tail)[:n] + g.uniform(0, 0.1) * coloured(g, n)


def calls(g: np.random.Generator, n: int) -> np.ndarray:
    """Voiced, with formants, and yet no words: barks, cries, lowing, crowing, laughs, humming."""
    sound = 0.003 * g.standard_normal(n)
    low, high = sorted(g.uniform(70, 900, 2))
    formants = g.uniform([250, 800, 2000], [1000, 2400, 3800])
    width, span = g.uniform(80, 400), g.choice([0.12, 0.4, 1.2])
    at, pause = g.uniform(0, 0.5), g.uniform(0.1, 1.5)
    while True:
        length = int(RATE * g.uniform(0.4, 1.0) * span)
        start = int(at * RATE)
        if start >= n:
            return sound
        pitch = np.interp(np.arange(length), np.linspace(0, length, 3), g.uniform(low, high, 3))
        pitch = pitch * (1 + 0.03 * np.sin(2 * np.pi * g.uniform(4, 30) * np.arange(length) / RATE))
        pulses = np.diff(np.floor(np.cumsum(pitch) / RATE), prepend=0) + 0.1 * g.standard_normal(length)
        hertz = np.fft.rfftfreq(length, 1 / RATE)
        response = sum(1 / (1 + ((hertz - f * g.uniform(0.95, 1.05)) / width) ** 2) for f in formants)
        called = np.fft.irfft(np.fft.rfft(pulses) * response, length) * np.hanning(length)
        sound[start : start + length] += (called / (np.abs(called).max() + 1e-9) * g.uniform(0.3, 1))[
            : n - start
        ]
        at += length / RATE + g.exponential(pause)


MADE = (coloured, coloured, hum, engine, knocks, chirps, crackle, calls, calls)


def anew(g: np.random.Generator, n: int) -> np.ndarray:
    """float32 [n]: any of what can be made."""
    return levelled(MADE[g.integers(len(MADE))](g, n))


def made(seed: int, count: int) -> Iterator[tuple[np.ndarray, store.Utterance]]:
    g = np.random.default_rng(seed)
    for i in range(count):
        maker = MADE[i % len(MADE)]
        yield (
            levelled(maker(g, PIECE_SECONDS * RATE)),
            store.Utterance("", f"made/{maker.__name__}", "noise", 0, 0),
        )


def recorded(folders: list[Path]) -> Iterator[tuple[np.ndarray, store.Utterance]]:
    found = {
        (p, p.relative_to(folder)) for folder in folders for kind in SOUND_FILES for p in folder.rglob(kind)
    }
    for path, below in sorted(found):
        if SAID.search(f"/{below}"):
            continue
        try:
            samples = store.read_sound(path)
        except RuntimeError as refused:
            print(f"{path.name} is left out: {refused}", flush=True)
            continue
        for start in range(0, len(samples), PIECE_SECONDS * RATE):
            piece = samples[start : start + PIECE_SECONDS * RATE]
            if len(piece) > SHORTEST_SECONDS * RATE and np.abs(piece).max() > 1e-3:
                yield levelled(piece), store.Utterance("", f"recorded/{path.stem}", "noise", 0, 0)


def levelled(samples: np.ndarray) -> np.ndarray:
    rms = float(np.sqrt((samples**2).mean()))
    return (samples * (store.LEVEL_RMS / (rms + 1e-9))).astype(np.float32)


@click.command()
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--folder", type=click.Path(path_type=Path), default=Path("training-data"), show_default=True)
@click.option(
    "--pieces", default=450, show_default=True, help=f"How many to make, of {PIECE_SECONDS} s each."
)
@click.option("--seed", default=1, show_default=True)
def main(folders: tuple[Path, ...], folder: Path, pieces: int, seed: int) -> None:
    """FOLDERS hold sound effects and music; what is named as spoken (`SAID`) is left out."""
    print(store.write(folder, "noise_made", made(seed, pieces)), "made", flush=True)
    if folders:
        print(store.write(folder, "noise_recorded", recorded(list(folders))), "recorded", flush=True)


if __name__ == "__main__":
    main()
