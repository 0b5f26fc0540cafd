"""Step 3, `python -m engine.training.humans`: people's words, into a store.

Free Spoken Digit Dataset (a git checkout: github.com/Jakobovski/free-spoken-digit-dataset, CC BY-SA 4.0),
one speaker left out for tests, and the prompts of Asterisk (Debian's asterisk-core-sounds-en-g722, CC BY-SA
3.0): numbers, ordinals, days and months as one woman says them. Sentences are laid together from these words
(`examples.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import click
import numpy as np

from engine.training import store
from engine.training.grammar import ONES, ORDINALS, TEENS, TENS

KEPT_SPEAKER = "theo"
DAYS = "Sunday Monday Tuesday Wednesday Thursday Friday Saturday".split()
MONTHS = "January February March April May June July August September October November December".split()
PLAIN = tuple("hundred thousand million billion minus dollars oh at today tomorrow yesterday".split())


def prompts() -> dict[str, str]:
    """Name of Asterisk's file, and the word that it says."""
    said = {str(i): word for i, word in enumerate(ONES + TEENS)} | {
        str(10 * i + 20): w for i, w in enumerate(TENS)
    }
    said |= {f"h-{i + 1}": word for i, word in enumerate(ORDINALS)} | {
        "h-30": "thirtieth",
        "oclock": "o'clock",
    }
    said |= {f"day-{i}": word for i, word in enumerate(DAYS)} | {
        f"mon-{i}": word for i, word in enumerate(MONTHS)
    }
    return said | {word: word for word in PLAIN}


def decoded(path: Path) -> np.ndarray:
    """G.722, which soundfile does not know: float32 [samples], 16 kHz."""
    with av.open(str(path)) as container:
        blocks = [frame.to_ndarray().ravel() for frame in container.decode(audio=0)]
    return np.concatenate(blocks).astype(np.float32) / 32768


def asterisk(folder: Path) -> Iterator[tuple[np.ndarray, store.Utterance]]:
    for name, word in prompts().items():
        samples = store.trimmed(decoded(folder / "digits" / f"{name}.g722"), margin=160)
        if samples is not None:
            yield samples, store.Utterance(word, "asterisk/allison", "word", 0, 0)


def spoken_digits(folder: Path) -> Iterator[tuple[np.ndarray, store.Utterance]]:
    for path in sorted((folder / "recordings").glob("*.wav")):
        digit, speaker, _ = path.stem.split("_")
        samples = store.trimmed(store.read_sound(path), margin=160)
        if samples is not None:
            yield samples, store.Utterance(ONES[int(digit)], f"fsdd/{speaker}", "word", 0, 0)


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), default=Path("training-data"), show_default=True)
@click.option(
    "--digits", type=click.Path(path_type=Path, exists=True), required=True, help="The digits' checkout."
)
@click.option(
    "--prompts",
    "prompts_folder",
    type=click.Path(path_type=Path),
    default=Path("/usr/share/asterisk/sounds/en_US_f_Allison"),
    show_default=True,
)
def main(folder: Path, digits: Path, prompts_folder: Path) -> None:
    print(store.write(folder, "human_digits", spoken_digits(digits)), "digits", flush=True)
    print(store.write(folder, "human_prompts", asterisk(prompts_folder)), "prompts", flush=True)


if __name__ == "__main__":
    main()
