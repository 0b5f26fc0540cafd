"""Sentences of the training domain, made by chance from `grammar.toml`, written as Whisper writes."""

from __future__ import annotations

import hashlib
import random
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ONES = "zero one two three four five six seven eight nine".split()
TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth "
    "fifteenth sixteenth seventeenth eighteenth nineteenth twentieth"
).split()
CLOCK = "half past|quarter past|quarter to|ten past|twenty past|five to|ten to|twenty to|five past".split("|")
PARTS_OF_DAY = [
    "",
    "",
    "",
    " in the morning",
    " in the evening",
    " in the afternoon",
    " tonight",
    " today",
    " at night",
]
NAMED_TIMES = ["noon", "midnight", "lunch time", "sunrise", "sunset"]

_FIELD = re.compile(r"\{(\w+)\}")
_WORD = re.compile(r"[A-Za-z']+")


@dataclass(frozen=True)
class Sentence:
    kind: str
    text: str

    @property
    def kept_for_tests(self) -> bool:
        """One text in 25, by its MD5, whoever says it: of those nobody trains on (those of kind `short`,
        which are few, are trained on whole and tested never).
        """
        return int(hashlib.md5(self.text.lower().encode()).hexdigest(), 16) % 25 == 0


def below_hundred(n: int) -> str:
    if n < 20:
        return (ONES + TEENS)[n]
    return TENS[n // 10 - 2] + ("" if n % 10 == 0 else " " + ONES[n % 10])


def number(r: random.Random) -> str:
    chance = r.random()
    if chance < 0.5:
        return below_hundred(r.randint(0, 99))
    if chance < 0.75:
        hundreds, rest = r.randint(1, 9), r.randint(0, 99)
        first = "a" if hundreds == 1 and r.random() < 0.4 else ONES[hundreds]
        link = " and " if r.random() < 0.6 else " "
        return first + " hundred" + (link + below_hundred(rest) if rest else "")
    if chance < 0.93:
        more = "" if r.random() < 0.5 else f" {ONES[r.randint(1, 9)]} hundred"
        return below_hundred(r.randint(1, 99)) + " thousand" + more
    last = r.choice([" million", " billion", " point " + ONES[r.randint(0, 9)], " percent"])
    return below_hundred(r.randint(1, 30)) + last


def digits(r: random.Random, least: int = 2, most: int = 8) -> str:
    said = [r.choice(ONES) for _ in range(r.randint(least, most))]
    if r.random() < 0.15:
        said = ["oh" if digit == "zero" else digit for digit in said]
    group = r.choice([0, 0, 3, 4])
    commas = [group and (i + 1) % group == 0 and i + 1 < len(said) for i in range(len(said))]
    return " ".join(digit + ("," if comma else "") for digit, comma in zip(said, commas, strict=True))


def ordinal(r: random.Random) -> str:
    day = r.randint(1, 31)
    if day <= 20:
        return ORDINALS[day - 1]
    return "thirtieth" if day == 30 else ("twenty " if day < 30 else "thirty ") + ORDINALS[day % 10 - 1]


def year(r: random.Random) -> str:
    chance = r.random()
    if chance < 0.35:
        return "twenty " + below_hundred(r.randint(10, 40))
    if chance < 0.5:
        return "two thousand and " + ONES[r.randint(1, 9)]
    return r.choice(["eighteen", "nineteen"]) + " " + below_hundred(r.randint(10, 99))


def time_of_day(r: random.Random) -> str:
    hour, chance = below_hundred(r.randint(1, 12)), r.random()
    if chance < 0.25:
        said = hour + r.choice(["", " o'clock"])
    elif chance < 0.5:
        said = r.choice(CLOCK) + " " + hour
    elif chance < 0.93:
        minute = r.choice([0, *(r.randint(1, 59) for _ in range(3)), 15, 30, 45])
        said = hour + (
            f" {below_hundred(minute)}" if minute >= 10 else f" oh {ONES[minute]}" if minute else ""
        )
    else:
        return r.choice(NAMED_TIMES)
    return said + r.choice(PARTS_OF_DAY)


class Grammar:
    """Lists, kinds of sentences and their weights."""

    def __init__(self, path: Path | None = None, *, every_kind: bool = False) -> None:
        """`every_kind`: the wide domain too, else those kinds that are marked `domain`."""
        told = tomllib.loads((path or Path(__file__).with_name("grammar.toml")).read_text())
        self._lists = {
            k: [x.strip() for x in " ".join(v.split()).split("|")] for k, v in told["lists"].items()
        }
        self._every = {k: v["templates"] for k, v in told["kinds"].items()}
        self._kinds = [k for k, v in told["kinds"].items() if every_kind or v["domain"]]
        self._weights = [told["kinds"][k]["weight"] for k in self._kinds]
        self._extra = told["extra_words"].split()
        self._makers: dict[str, Callable[[random.Random], str]] = {
            "num": number,
            "n99": lambda r: below_hundred(r.randint(0, 99)),
            "n60": lambda r: below_hundred(r.randint(1, 60)),
            "n12": lambda r: below_hundred(r.randint(2, 12)),
            "digits": digits,
            "digits1": lambda r: r.choice(ONES),
            "digits2": lambda r: digits(r, 2, 4).replace(",", ""),
            "ord": ordinal,
            "year": year,
            "time": time_of_day,
            "salad": self._any_words,
        }
        self.words = self._vocabulary()

    def sentence(self, r: random.Random) -> Sentence:
        kind = r.choices(self._kinds, weights=self._weights)[0]
        text = self._said(r.choice(self._every[kind]), r)
        if kind != "salad":
            text = re.sub(r"\b([Aa]) (?!one\b)([aeiouAEIOU])", r"\1n \2", text)
        text = re.sub(r"\bpeoples\b", "people", text)
        return Sentence(kind, text[0].upper() + text[1:])

    def _said(self, template: str, r: random.Random) -> str:
        def one(field: re.Match[str]) -> str:
            name = field.group(1)
            return (
                self._makers[name](r) if name in self._makers else self._said(r.choice(self._lists[name]), r)
            )

        return _FIELD.sub(one, template)

    def _any_words(self, r: random.Random) -> str:
        return " ".join(r.choice(self.words) for _ in range(r.randint(1, 9))) + "."

    def _vocabulary(self) -> list[str]:
        numbers = [
            *ONES,
            *TEENS,
            *TENS,
            *ORDINALS,
            "oh",
            "thirtieth",
            "hundred",
            "thousand",
            "million",
            "billion",
        ]
        times = " ".join([*CLOCK, *PARTS_OF_DAY, *NAMED_TIMES, "o'clock"]).split()
        words = {*self._extra, *numbers, *times}
        for entries in self._lists.values():
            words.update(w for entry in entries for w in _WORD.findall(_FIELD.sub(" ", entry)))
        for templates in self._every.values():
            for word in (w for t in templates for w in _WORD.findall(_FIELD.sub(" ", t))):
                words.add(word if word == "I" or word.startswith("I'") else word.lower())
        return sorted(words - {"s", "'s"})
