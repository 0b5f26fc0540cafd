"""Text from the wire as it may be shown: on one line, and without anything that a terminal would obey."""

from __future__ import annotations

import unicodedata

# Joiners and direction marks: scripts need them, and they move no cursor.
KEPT_FORMAT = "\u200c\u200d\u200e\u200f"


def printable(text: str) -> str:
    """``text`` in one line: controls and separators become spaces, other invisible letters go.

    So no caption moves the cursor or turns the line around.
    """
    return "".join(map(_printable_letter, text))


def _printable_letter(letter: str) -> str:
    kind = unicodedata.category(letter)
    if kind in ("Cc", "Zl", "Zp"):
        return " "
    return "" if kind in ("Cf", "Cs") and letter not in KEPT_FORMAT else letter
