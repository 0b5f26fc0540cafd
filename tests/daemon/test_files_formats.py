"""What stands in the files: everything that was said can be read back, by those who read such files."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable
from itertools import pairwise

import pytest
from captiond import wire
from captiond.config import FileFormat
from captiond.files.facts import Fact, LogGap, Opening
from captiond.files.formats import Place, head, lines
from captiond.files.names import iso_time
from captiond_clients.events import Final as ClientFinal
from captiond_clients.events import FinalWord
from captiond_clients.subtitles import SubtitleText
from captiond_clients.subtitles import cues as client_cues
from hypothesis import given
from hypothesis import strategies as st

from tests.daemon.subtitle_files import read_srt, read_vtt

OPENING = Opening("hall", "e1", 1_795_000_000.25)
# What a language or a stranger may bring along: markup, arrows, line ends of all kinds, right-to-left, emoji.
AWKWARD = [
    *("-->", "<i>", "</b>", "&", "&amp;", "a", "1", "00:00:01,000 --> 00:00:02,000", "WEBVTT", "NOTE x", " "),
    *("\n", "\r\n", "\n\n", "\x0b", "\x85", "\u2028", "\u2029", "\x1c", "\x00", "\t", "\u00a0", "\u200b"),
    *(
        "שלום עולם",
        "مرحبا",
        "\u202eabc",
        "می\u200cخواهم",
        "👩\u200d🚀",
        "日本語の字幕",
        "x" * 60,
        "-",
        "well-known",
    ),
]
texts = st.lists(st.sampled_from(AWKWARD), max_size=30).map("".join) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=200
)


def final(text: str, start_ms: int = 0, end_ms: int = 1_000, segment: int = 1) -> wire.Final:
    return wire.Final(segment=segment, text=text, start_ms=start_ms, end_ms=end_ms, language="en")


def whole(form: FileFormat, finals: Iterable[wire.Final], zero_ms: int = 0) -> str:
    """A file with all of ``finals``."""
    data, count = head(form), 0
    for event in finals:
        added = lines(Fact(OPENING, event, OPENING.opened_at), form, Place(count, zero_ms))
        data += added.data
        count += added.cues
    return data.decode()


@st.composite
def speeches(draw: st.DrawFn) -> list[wire.Final]:
    """Finals one after another, at least 20 ms each, as segments are."""
    at, told = 0, []
    for segment in range(draw(st.integers(0, 6))):
        start = at + draw(st.integers(0, 400_000_000))
        at = start + draw(st.integers(20, 25_000))
        told.append(final(draw(texts), start, at, segment))
    return told


def letters(text: str) -> str:
    """What of ``text`` is to be read: everything but space and what nobody sees."""
    return "".join(letter for letter in text if letter.isprintable() and not letter.isspace())


def arrowless(text: str) -> str:
    """SubRip has no way to write an arrow that is no line of times: its shaft is shortened."""
    return re.sub("-+>", ">", text)


@given(speeches())
def test_subtitles_are_read_back_as_they_were_said(told: list[wire.Final]) -> None:
    for form, read in (("srt", read_srt), ("vtt", read_vtt)):
        found = read(whole(form, told))  # type: ignore[arg-type]  # the names of formats
        said = "".join(letters(event.text) for event in told)
        heard = "".join(letters("".join(cue.lines)) for cue in found)
        assert heard == said if form == "vtt" else arrowless(heard) == arrowless(said)
        assert [time for cue in found for time in cue[:2]] == sorted(
            time for cue in found for time in cue[:2]
        )
        bounds = [(event.start_ms, event.end_ms) for event in told]
        assert all(any(a <= cue.start_ms and cue.end_ms <= b + 10 for a, b in bounds) for cue in found)


@given(speeches(), st.integers(0, 5))
def test_a_file_that_ends_after_any_fact_is_whole(told: list[wire.Final], count: int) -> None:
    assert whole("srt", told).startswith(whole("srt", told[:count]))
    assert read_vtt(whole("vtt", told)[: len(whole("vtt", told[:count]))]) == read_vtt(
        whole("vtt", told[:count])
    )


@given(texts)
def test_a_caption_is_one_line_of_text_and_one_of_json(text: str) -> None:
    plain, record = whole("txt", [final(text)]), whole("jsonl", [final(text)])
    assert plain.splitlines() in ([], [plain[:-1]])
    assert letters(plain) == letters(text)
    assert record.count("\n") == 1
    assert json.loads(record)["text"] == text


@given(
    texts,
    st.integers(0, 10_000),
    st.integers(0, 30_000),
    st.lists(st.tuples(st.text("ab ", max_size=9), st.integers(0, 500)), max_size=40),
)
def test_the_daemons_subtitles_are_the_clients(
    text: str, start_ms: int, length_ms: int, words: list[tuple[str, int]]
) -> None:
    text = text + " ".join(word for word, _ in words)
    times = [start_ms + sum(length for _, length in words[:number]) for number in range(len(words) + 1)]
    ours = wire.Final(
        segment=1,
        text=text,
        start_ms=start_ms,
        end_ms=start_ms + length_ms,
        language=None,
        words=tuple(
            wire.Word(text=word, start_ms=a, end_ms=b, probability=1.0)
            for (word, _), (a, b) in zip(words, pairwise(times), strict=True)
        ),
    )
    theirs = ClientFinal(
        type="transcript.final",
        segment=1,
        text=text,
        start_ms=start_ms,
        end_ms=start_ms + length_ms,
        words=tuple(FinalWord(w.text, w.start_ms, w.end_ms) for w in ours.words or ()),
    )
    for form in ("srt", "vtt"):
        shown = SubtitleText(form)
        assert whole(form, [ours]) == shown.head() + shown.cue_text(theirs)
    assert all(cue.end_ms > cue.start_ms and cue.text.strip() for cue in client_cues(theirs))


def test_a_line_of_json_is_the_wires_event_with_epoch_and_time() -> None:
    word = wire.Word(text="Hello.", start_ms=400, end_ms=900, probability=0.5)
    told = wire.Final(
        stream="hall", seq=7, segment=3, text="Hello.", start_ms=400, end_ms=900, language="en", words=(word,)
    )
    fact = Fact(OPENING, told, OPENING.opened_at + 0.4)
    record = json.loads(lines(fact, "jsonl", Place()).data)
    assert record == {
        **{"v": 1, "type": "transcript.final", "stream": "hall", "seq": 7, "segment": 3, "text": "Hello."},
        **{"start_ms": 400, "end_ms": 900, "language": "en", "epoch": "e1", "at": "2026-11-18T11:06:40.650Z"},
    }
    with_words = json.loads(lines(fact, "jsonl", Place(), words=True).data)
    assert with_words["words"] == [{"text": "Hello.", "start_ms": 400, "end_ms": 900, "probability": 0.5}]


def test_what_is_no_final_stands_in_json_alone() -> None:
    lost = Fact(OPENING, wire.AudioLost(stream="hall", seq=2, start_ms=0, end_ms=9, reason="gap"), 0.0)
    gap = Fact(OPENING, LogGap(stream="hall", lost_finals=2, lost_lines=3), 0.0)
    assert json.loads(lines(lost, "jsonl", Place()).data)["type"] == "audio.lost"
    assert json.loads(lines(gap, "jsonl", Place()).data) == {
        **{"type": "log.gap", "v": 1, "stream": "hall", "lost_finals": 2, "lost_lines": 3},
        **{"epoch": "e1", "at": iso_time(0.0)},
    }
    for form in ("srt", "vtt", "txt"):
        assert not lines(lost, form, Place()).data
        assert not lines(gap, form, Place()).data


def test_times_count_from_the_files_zero() -> None:
    (cue,) = read_srt(whole("srt", [final("Late.", 7_200_500, 7_201_000)], zero_ms=7_200_500))
    assert cue == (0, 500, ("Late.",))


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_ffmpeg_reads_them(form: FileFormat) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed (extra av)")
    told = [
        final("One & <two>, שלום.", 500, 1_500),
        final("a --> b " + "wonderful " * 12, 3_600_000, 3_610_000),
    ]
    with av.open(io.BytesIO(whole(form, told).encode()), format={"vtt": "webvtt"}.get(form, form)) as opened:
        packets = [packet for packet in opened.demux() if packet.size]
    read = {"srt": read_srt, "vtt": read_vtt}[form](whole(form, told))
    assert [(packet.pts, packet.pts + packet.duration) for packet in packets] == [cue[:2] for cue in read]
    assert "שלום" in bytes(packets[0]).decode()
