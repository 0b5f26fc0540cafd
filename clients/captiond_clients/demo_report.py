"""What the demo ends with: each sentence beside what was heard, the word error rate, the latencies.

Takes the sample's sentences with their times and every event with its receipt; prints and gives figures.
The latencies are named and defined as everywhere in captiond: audio paced at real time, a time taken when the
message is received. Needs jiwer and whisper-normalizer. Knows no socket.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from captiond_clients.events import Event, Final, Partial, SpeechEnded
from captiond_clients.printable import printable

Figures = dict[str, dict[str, float | int]]


class Spoken(msgspec.Struct, frozen=True):
    """One sentence of the sample; times in seconds."""

    speech_start: float
    speech_end: float
    text: str


@dataclass(frozen=True, slots=True)
class Heard:
    """An event and the seconds from the sample's first moment to its receipt."""

    at_s: float
    event: Event


def matched(spoken: Sequence[Spoken], heard: Sequence[Heard]) -> list[list[Final]]:
    """The finals of each sentence: each final belongs to the sentence that it overlaps most."""
    found: list[list[Final]] = [[] for _ in spoken]
    for received in heard:
        final = received.event
        if isinstance(final, Final):
            found[max(range(len(spoken)), key=lambda i: _overlap_s(spoken[i], final))].append(final)
    return found


def _overlap_s(sentence: Spoken, event: Final | Partial) -> float:
    end_ms = event.end_ms if isinstance(event, Final) else event.heard_until_ms
    return min(sentence.speech_end, end_ms / 1000) - max(sentence.speech_start, event.start_ms / 1000)


def latencies_ms(spoken: Sequence[Spoken], heard: Sequence[Heard]) -> dict[str, list[float]]:
    """First partial, finalization and compute finalization, one value a sentence or final, in ms."""
    first: dict[int, float] = {}
    last: dict[int, float] = {}
    ended: dict[tuple[str | None, int], float] = {}
    compute: list[float] = []
    for received in heard:
        event = received.event
        if isinstance(event, SpeechEnded):
            ended[event.stream, event.segment] = received.at_s
        elif isinstance(event, Partial | Final):
            sentence = max(range(len(spoken)), key=lambda i: _overlap_s(spoken[i], event))
            if isinstance(event, Final):
                last[sentence] = received.at_s
                told_s = ended.get((event.stream, event.segment))
                compute += [] if told_s is None else [1000 * (received.at_s - told_s)]
            elif event.committed + event.tentative:
                first.setdefault(sentence, received.at_s)
    return {
        "first partial": [1000 * (at_s - spoken[i].speech_start) for i, at_s in first.items()],
        "finalization": [1000 * (at_s - spoken[i].speech_end) for i, at_s in last.items()],
        "compute finalization": compute,
    }


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of ``values`` do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(len(ordered) * share * 100) // 100) - 1)]


def report(spoken: Sequence[Spoken], heard: Sequence[Heard], console: Console, *, paced: bool) -> Figures:
    """Prints everything; gives the figures."""
    texts = [" ".join(final.text for final in finals) for finals in matched(spoken, heard)]
    console.print("\nWhat was said, and below it what was heard where that differs:\n", style="bold")
    wrong = total = 0
    for sentence, text in zip(spoken, texts, strict=True):
        errors, words = word_errors(sentence.text, text)
        wrong, total = wrong + errors, total + words
        for line in compared(sentence.text, text, mark="" if console.is_terminal else "*"):
            console.print(line, soft_wrap=True)
    percent = 100 * wrong / max(1, total)
    figures: Figures = {"wer": {"percent": round(percent, 1), "errors": wrong, "words": total}}
    console.print(
        f"\nWord error rate {percent:.1f} % ({wrong} of {total} words, after Whisper's English normalizer, "
        "which counts a row of digits as one word)",
        style="bold",
        soft_wrap=True,
    )
    if paced:
        figures |= _print_latencies(latencies_ms(spoken, heard), console)
    return figures


def _print_latencies(measured: dict[str, list[float]], console: Console) -> Figures:
    meanings = {
        "first partial": "first words shown − start of speech",
        "finalization": "final − true end of speech",
        "compute finalization": "final − endpoint told (speech.ended)",
    }
    table = Table("latency", "from … to", "p50", "p90", "n", box=None, pad_edge=False)
    figures: Figures = {}
    for name, values in measured.items():
        if values:
            p50, p90 = percentile(values, 0.5), percentile(values, 0.9)
            figures[name.replace(" ", "_") + "_ms"] = {"p50": round(p50), "p90": round(p90), "n": len(values)}
            table.add_row(name, meanings[name], f"{p50:.0f} ms", f"{p90:.0f} ms", str(len(values)))
    console.print()
    console.print(table)
    return figures


def word_errors(reference: str, hypothesis: str) -> tuple[int, int]:
    """Wrong words and words of the reference, both texts after Whisper's English normalizer."""
    import jiwer
    from whisper_normalizer.english import EnglishTextNormalizer

    normalize = EnglishTextNormalizer()
    said, heard = normalize(reference), normalize(hypothesis)
    if not heard.strip():
        return len(said.split()), len(said.split())
    counts = jiwer.process_words(said, heard)
    return counts.substitutions + counts.deletions + counts.insertions, len(said.split())


def compared(reference: str, hypothesis: str, *, mark: str) -> list[Text]:
    """The sentence, and below it what was heard unless it is the same; differing words red, in ``mark``."""
    said, heard = reference.split(), printable(hypothesis).split()
    matcher = SequenceMatcher(None, list(map(_bare, said)), list(map(_bare, heard)), autojunk=False)
    above, below = Text("   "), Text(" → ")
    same = True
    for kind, said_from, said_to, heard_from, heard_to in matcher.get_opcodes():
        same = same and kind == "equal"
        _add_words(above, said[said_from:said_to], kind == "equal", mark)
        _add_words(below, heard[heard_from:heard_to], kind == "equal", mark)
    if same:
        return [Text.assemble((" = ", "green"), reference)]
    return [above, below if heard else Text(" → (nothing)", style="bold red")]


def _bare(word: str) -> str:
    return "".join(letter for letter in word.lower() if letter.isalnum())


def _add_words(line: Text, words: Sequence[str], same: bool, mark: str) -> None:
    for word in words:
        line.append("" if line.plain.endswith(" ") else " ")
        line.append(word if same else f"{mark}{word}{mark}", style="" if same else "bold red")
