"""Sets of decoding options, as both openai-whisper's ``DecodingOptions`` and ours take them.

``ENGLISH`` is decoded by the bundled model on the kept clips; ``SEEDED`` by multilingual random weights,
three rows at once, where a list holds what is different from row to row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from captiond_engine.decoding.options import DecodingOptions

OptionSet = dict[str, Any]

# Without length_penalty the reference divides by zero where it ranks an empty text; with it nothing changes
# in a greedy decode.
_FREE = {"suppress_tokens": None, "suppress_blank": False, "length_penalty": 1.0}

ENGLISH: dict[str, OptionSet] = {
    "greedy, timestamps": {},
    "greedy, no timestamps": {"without_timestamps": True},
    "nothing suppressed": _FREE,
    "suppress_tokens empty": {"suppress_tokens": "", "without_timestamps": True},
    "suppress_tokens listed": {
        "suppress_tokens": [262, 318, 11],
        "suppress_blank": False,
        "length_penalty": 1.0,
    },
    "beam 5": {"beam_size": 5, "sample_len": 60},
    "beam 5, no timestamps": {"beam_size": 5, "without_timestamps": True, "sample_len": 60},
    "beam 5, patience 2, length_penalty 0.6": {
        "beam_size": 5,
        "patience": 2.0,
        "length_penalty": 0.6,
        "sample_len": 40,
    },
    "prompt and prefix": {"prompt": "turn on the lights", "prefix": "the", "sample_len": 60},
    "beam 3, prompt and prefix": {"beam_size": 3, "prompt": (314, 1_049), "prefix": "a", "sample_len": 30},
    "sample_len 7": {"sample_len": 7},
    "any first timestamp": {"max_initial_timestamp": None, "sample_len": 20},
}

_SHORT: OptionSet = {"language": "en", "sample_len": 24}
SEEDED: dict[str, OptionSet] = {
    "greedy, timestamps": _SHORT,
    "beam 5": {**_SHORT, "beam_size": 5},
    "beam 4, patience 1.5, length_penalty 0.3, no timestamps": {
        **_SHORT,
        "beam_size": 4,
        "patience": 1.5,
        "length_penalty": 0.3,
        "without_timestamps": True,
    },
    "translate": {**_SHORT, "task": "translate", "language": ["de", "fr", "ja"]},
    "language detected": {**_SHORT, "language": None},
    "unequal prompts and prefixes": {
        **_SHORT,
        "beam_size": [None, 3, 2],
        "prompt": [None, "earlier text", [400, 1_200, 77, 9, 50]],
        "prefix": [[1_542, 318], None, "and"],
    },
    "nothing suppressed": {**_SHORT, **_FREE},
}


def of_row(options: OptionSet, row: int) -> OptionSet:
    """One row's part of a set of three."""
    return {name: value[row] if _differs(name, value) else value for name, value in options.items()}


def _differs(name: str, value: object) -> bool:
    return isinstance(value, list) and name != "suppress_tokens"


def ours(options: OptionSet, rows: int) -> Iterator[DecodingOptions]:
    for row in range(rows):
        yield DecodingOptions(**of_row(options, row))
