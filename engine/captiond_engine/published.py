"""Published Whisper models by their short names. Knows no file and no network."""

from __future__ import annotations

from difflib import get_close_matches
from typing import NamedTuple


class KnownModel(NamedTuple):
    """A published model: its repository on the hub, its parameters in millions, and whether it hears English
    alone."""

    repository: str
    parameters_m: int
    english: bool = False


# Repositories as the hub's model cards name them: the first large model has no number there.
HUB_MODELS: dict[str, KnownModel] = {
    "tiny.en": KnownModel("openai/whisper-tiny.en", 38, english=True),
    "tiny": KnownModel("openai/whisper-tiny", 38),
    "base.en": KnownModel("openai/whisper-base.en", 73, english=True),
    "base": KnownModel("openai/whisper-base", 73),
    "small.en": KnownModel("openai/whisper-small.en", 242, english=True),
    "small": KnownModel("openai/whisper-small", 242),
    "medium.en": KnownModel("openai/whisper-medium.en", 764, english=True),
    "medium": KnownModel("openai/whisper-medium", 764),
    "large-v1": KnownModel("openai/whisper-large", 1543),
    "large-v2": KnownModel("openai/whisper-large-v2", 1543),
    "large-v3": KnownModel("openai/whisper-large-v3", 1543),
    "large-v3-turbo": KnownModel("openai/whisper-large-v3-turbo", 809),
    "distil-small.en": KnownModel("distil-whisper/distil-small.en", 166, english=True),
    "distil-medium.en": KnownModel("distil-whisper/distil-medium.en", 394, english=True),
    "distil-large-v2": KnownModel("distil-whisper/distil-large-v2", 756, english=True),
    "distil-large-v3": KnownModel("distil-whisper/distil-large-v3", 756, english=True),
    "distil-large-v3.5": KnownModel("distil-whisper/distil-large-v3.5", 756, english=True),
}
ALIASES = {"large": "large-v3", "turbo": "large-v3-turbo"}  # as openai-whisper's __init__.py has them


def did_you_mean(name: str) -> str:
    """A sentence with the nearest known name, or nothing."""
    short = name.lower().strip().rpartition("/")[2].replace("_", "-").removeprefix("whisper-")
    known = ["demo-en", *HUB_MODELS, *ALIASES]
    found = [short] if short in known else get_close_matches(short, known, n=1, cutoff=0.7)
    return f"Did you mean {found[0]}? " if found else ""
