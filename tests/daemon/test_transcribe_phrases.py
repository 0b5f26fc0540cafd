"""Long finals as subtitles and lines: nothing of the text is lost, and each can be read."""

from __future__ import annotations

from itertools import pairwise

from captiond import wire
from captiond.files.subtitles import CUE_LETTERS, LINE_LETTERS, cue_text, cues
from captiond.transcribe.phrases import LONGEST_MS, lines, phrases
from hypothesis import given
from hypothesis import strategies as st


def final(*words: tuple[str, int, int], text: str | None = None, end_ms: int | None = None) -> wire.Final:
    """A final of words with their times; it begins 300 ms before its first word."""
    said = tuple(wire.Word(text=t, start_ms=a, end_ms=b, probability=1.0) for t, a, b in words)
    return wire.Final(
        segment=1,
        text=" ".join(t for t, _, _ in words) if text is None else text,
        start_ms=words[0][1] - 300,
        end_ms=words[-1][2] + 200 if end_ms is None else end_ms,
        language="en",
        words=said,
    )


def spoken(text: str, start_ms: int = 1_000, each_ms: int = 300) -> list[tuple[str, int, int]]:
    return [
        (word, start_ms + i * each_ms, start_ms + (i + 1) * each_ms) for i, word in enumerate(text.split())
    ]


def texts(found: list[wire.Final]) -> list[str]:
    return [phrase.text for phrase in found]


def test_a_short_final_stays_as_it_is() -> None:
    whole = final(*spoken("Turn on the lights."))
    assert phrases(whole) == [whole]
    assert lines(whole) == [whole]


def test_cuts_are_at_sentences_rather_than_where_the_line_is_full() -> None:
    said = spoken(
        "It was cold and wet yesterday, and it will be. What is the weather tomorrow? "
        "The concert is on Wednesday, April thirtieth, and nobody knows when."
    )
    found = phrases(final(*said))
    assert texts(found) == [
        "It was cold and wet yesterday, and it will be.",
        "What is the weather tomorrow?",
        "The concert is on Wednesday, April thirtieth, and nobody knows when.",
    ]
    assert [phrase.start_ms for phrase in found] == [700, 4_000, 5_500]
    assert [phrase.end_ms for phrase in found] == [4_000, 5_500, 9_000]


def test_what_is_too_short_to_be_read_goes_with_its_neighbour() -> None:
    assert texts(phrases(final(*spoken("Yes. The concert is on Wednesday.")))) == [
        "Yes. The concert is on Wednesday."
    ]


def test_a_sentence_that_is_too_long_is_cut_at_a_clause_or_a_pause() -> None:
    said = spoken(
        "when the meeting with the support team begins tomorrow, we will talk about all of the invoices"
    )
    assert texts(phrases(final(*said)))[0].endswith("tomorrow,")
    first = spoken("when the meeting with the support team begins tomorrow")
    paused = [*first, *spoken("we will talk about all of the invoices", first[-1][2] + 700)]
    found = phrases(final(*paused))
    assert texts(found)[0].endswith("tomorrow")
    assert found[0].end_ms == first[-1][2] + 500
    assert found[1].start_ms == first[-1][2] + 700


def test_slow_speech_is_cut_by_time() -> None:
    found = phrases(final(*spoken("one two three four five six seven eight nine ten", each_ms=2_000)))
    assert len(found) == 4
    assert all(phrase.words[-1].end_ms - phrase.words[0].start_ms <= LONGEST_MS for phrase in found)


def test_lines_end_where_somebody_paused_after_a_sentence_or_for_long() -> None:
    said = [
        *spoken("It rains."),
        *spoken("Now it does", 2_200),
        *spoken("not", 4_000),
        *spoken("rain.", 5_900),
    ]
    assert texts(lines(final(*said))) == ["It rains.", "Now it does not", "rain."]


def test_a_text_without_spaces_is_cut_where_its_words_are() -> None:
    words = [("明日の", 0, 3_000), ("天気は", 3_000, 6_000), ("晴れです。", 6_000, 9_000)]
    found = phrases(final(*words, text="明日の天気は晴れです。"))
    assert "".join(texts(found)) == "明日の天気は晴れです。"
    assert len(found) == 2


def test_words_that_are_not_the_text_cut_nothing() -> None:
    odd = final(*spoken("turn on the lights"), text="something else")
    assert phrases(odd) == [odd]
    more = final(*spoken("turn on"), text="turn on the lights")
    assert phrases(more) == [more]
    assert phrases(wire.Final(segment=1, text="a", start_ms=0, end_ms=9, language=None)) != []


@st.composite
def finals(draw: st.DrawFn) -> wire.Final:
    at, words = 300, []
    for _ in range(draw(st.integers(1, 60))):
        at += draw(st.sampled_from([0, 0, 0, 0, 200, 600, 3_000]))
        until = at + draw(st.integers(0, 900))
        words.append((draw(st.text("abcdefghij.,?", min_size=1, max_size=14)), at, until))
        at = until
    return final(*words)


@given(finals())
def test_phrases_keep_all_words_in_order_and_can_be_read(whole: wire.Final) -> None:
    found = phrases(whole)
    assert " ".join(texts(found)).split() == whole.text.split()
    assert tuple(word for phrase in found for word in phrase.words) == whole.words
    assert (found[0].start_ms, found[-1].end_ms) == (whole.start_ms, whole.end_ms)
    assert all(a.end_ms <= b.start_ms for a, b in pairwise(found))
    for phrase in found:
        assert phrase.start_ms <= phrase.end_ms
        if len(phrase.words) > 1:
            assert phrase.words[-1].end_ms - phrase.words[0].start_ms <= LONGEST_MS
            assert len(phrase.text) <= CUE_LETTERS
        (cue,) = cues(phrase)
        shown = cue_text(cue, "srt", 1, 0).splitlines()[2:-1]
        assert 1 <= len(shown) <= 2
        assert all(len(line) <= LINE_LETTERS for line in shown)


@given(finals())
def test_lines_keep_all_words_in_order(whole: wire.Final) -> None:
    assert " ".join(texts(lines(whole))).split() == whole.text.split()
