"""Finals as subtitle cues."""

from __future__ import annotations

from captiond_clients.events import Final, FinalWord
from captiond_clients.subtitles import CUE_LETTERS, SubtitleText, clock, cues
from hypothesis import given
from hypothesis import strategies as st

LONG = " ".join(["wonderful"] * 24)


def final(text: str, words: tuple[FinalWord, ...] | None = None) -> Final:
    return Final(
        type="transcript.final", segment=0, text=text, start_ms=1_000, end_ms=25_000, words=words, stream="s"
    )


def test_srt_is_numbered_and_has_commas() -> None:
    subtitles = SubtitleText("srt")
    assert subtitles.head() == ""
    assert subtitles.cue_text(final("One --> two.")) == "1\n00:00:01,000 --> 00:00:25,000\nOne -> two.\n\n"
    assert subtitles.cue_text(final("More.")).startswith("2\n")


def test_no_text_is_no_cue() -> None:
    assert SubtitleText("vtt").cue_text(final("")) == ""


def test_a_long_final_is_cut_at_its_words_times() -> None:
    words = tuple(FinalWord("wonderful", 1_000 * n + 1_000, 1_000 * n + 1_900) for n in range(24))
    parts = cues(final(LONG, words))
    first_words = [sum(len(part.text.split()) for part in parts[:index]) for index in range(len(parts))]
    assert [part.start_ms for part in parts] == [words[index].start_ms for index in first_words]


@given(st.text(alphabet="ab c", max_size=600), st.integers(0, 1_000), st.integers(0, 30_000))
def test_cues_keep_all_words_and_do_not_overlap(text: str, start_ms: int, length_ms: int) -> None:
    whole = Final(
        type="transcript.final", segment=0, text=text, start_ms=start_ms, end_ms=start_ms + length_ms
    )
    parts = cues(whole)
    assert "".join("".join(part.text for part in parts).split()) == "".join(text.split())
    times = [time for part in parts for time in (part.start_ms, part.end_ms)]
    assert times == sorted(times)
    assert all(len(part.text) <= CUE_LETTERS for part in parts)


def test_clock() -> None:
    assert clock(3_723_004, ",") == "01:02:03,004"
