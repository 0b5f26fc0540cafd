"""Words that may yet change are shown when they are likely to stay."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from captiond_engine.decoding.align import bare
from captiond_engine.decoding.showing import REMEMBERED, STOOD, TAKEN_BACK, Composure, Steadiness
from captiond_engine.types import Word
from hypothesis import given
from hypothesis import strategies as st


def words(**likely: float) -> list[Word]:
    return [Word(f" {text}", 0, 0, probability) for text, probability in likely.items()]


def text_of(shown: Sequence[Word]) -> str:
    return "".join(word.text for word in shown).strip()


def test_words_are_shown_at_once_as_long_as_they_are_likely_together() -> None:
    first = words(turn=0.9, on=0.8, the=0.8, light=1.0)
    assert text_of(Steadiness(0.7).update(first, 0)) == "turn on"
    assert text_of(Steadiness(0.5).update(first, 0)) == "turn on the light"


def test_a_likely_word_behind_an_unlikely_one_is_not_shown() -> None:
    assert text_of(Steadiness(0.6).update(words(turn=0.9, off=0.3, the=1.0), 0)) == "turn"


def test_an_unlikely_word_is_shown_when_it_came_twice_before() -> None:
    steadiness = Steadiness(0.6)
    told = [{"of": 0.3}, {"off": 0.3}, {"off": 0.3}, {"off": 0.3, "the": 0.2}]
    shown = [text_of(steadiness.update(words(turn=0.9, **rest), 0)) for rest in told]
    assert shown == ["turn", "turn", "turn", "turn off"]


def test_a_word_that_stood_does_not_count_against_those_behind_it() -> None:
    steadiness = Steadiness(0.6)
    for _ in range(3):
        steadiness.update(words(turn=0.9, off=0.3), 0)
    assert text_of(steadiness.update(words(turn=0.9, off=0.3, lamp=0.7), 0)) == "turn off lamp"


def test_a_shown_word_outlasts_one_hypothesis_that_shows_nothing_in_its_place() -> None:
    steadiness = Steadiness(0.8)
    told = [words(set=0.9, a=1.0, timer=0.9), words(set=0.9, a=1.0), words(set=0.9, a=1.0)]
    assert [text_of(steadiness.update(row, 0)) for row in told] == ["set a timer", "set a timer", "set a"]


def test_another_word_takes_the_place_of_a_shown_one_at_once() -> None:
    steadiness = Steadiness(0.8)
    told = [words(call=0.9, mark=0.9, now=1.0), words(call=0.9, mary=0.9)]
    assert [text_of(steadiness.update(row, 0)) for row in told] == ["call mark now", "call mary"]


def test_nothing_is_held_where_nothing_is_heard() -> None:
    steadiness = Steadiness(0.8)
    steadiness.update(words(up=0.9), 0)
    assert not steadiness.update([], 0)


def test_what_is_committed_is_shown_in_any_case() -> None:
    assert len(Steadiness(1.0).update(words(turn=0.1, on=0.1, the=0.1), 2)) == 2


def test_everything_is_shown_where_nothing_is_asked_and_nothing_else() -> None:
    steadiness = Steadiness(0.0)
    assert len(steadiness.update(words(turn=0.0, on=0.0), 0)) == 2
    assert len(steadiness.update(words(turn=0.0), 0)) == 1


def test_a_loop_is_not_shown() -> None:
    loop = [Word(" la", 0, 0, 1.0)] * 9
    assert len(Steadiness(0.5).update(loop, 0)) == 1


def wavering(composure: Composure, segments: int) -> list[str]:
    """What is shown, last of all, of segments in which each hypothesis is sure of another word."""
    seen = []
    for _ in range(segments):
        steadiness = Steadiness(0.8, composure)
        for word in ("one", "two", "three", "four"):
            shown = steadiness.update(words(**{word: 0.9}), 0)
        seen.append(text_of(shown))
        steadiness.end(words(five=0.9))
    return seen


def test_a_stream_that_takes_back_too_much_shows_what_is_committed_alone() -> None:
    composure = Composure()
    seen = wavering(composure, 3)
    assert seen[0] == "four"
    assert seen[1] == "two"  # with which more was taken back than a new stream is trusted with
    assert seen[2] == ""
    assert len(Steadiness(0.8, composure).update(words(up=1.0, down=1.0), 1)) == 1


def test_a_lost_stream_holds_what_it_showed() -> None:
    composure = Composure()
    steadiness = Steadiness(0.8, composure)
    steadiness.update(words(set=0.9, a=1.0), 0)
    composure.take_back(9)
    told = [words(set=0.9, the=1.0), words(sit=0.5), words(set=0.9, a=1.0, timer=1.0)]
    assert [text_of(steadiness.update(row, 0)) for row in told] == ["set a"] * 3
    assert text_of(steadiness.update(words(set=0.9, the=1.0, lamp=1.0), 3)) == "set the lamp"


def test_finals_make_up_for_what_was_taken_back() -> None:
    composure = Composure()
    composure.take_back(6)
    assert composure.is_lost
    finals = 0
    while composure.is_lost:
        composure.tell(5)
        finals += 1
    assert 2 < finals < 6
    assert len(Steadiness(0.8, composure).update(words(up=1.0), 0)) == 1


def test_what_lies_far_back_counts_less() -> None:
    once, always = Composure(), Composure()
    for segment in range(200):
        always.take_back(1)
        once.take_back(1 if segment < 3 else 0)
        for composure in (once, always):
            composure.tell(10)
    once.take_back(2)
    assert (once.is_lost, always.is_lost) == (False, True)


def test_all_is_shown_of_a_lost_stream_where_calm_is_not_asked() -> None:
    composure = Composure()
    composure.take_back(9)
    assert len(Steadiness(0.0, composure).update(words(up=0.1), 0)) == 1


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=3), max_size=60))
def test_no_more_is_taken_back_than_is_allowed_and_one_pass_more(told: list[list[str]]) -> None:
    """Segments without finals, so nothing is made up for; a pass takes back three words at most."""
    composure, back = Composure(), 0
    for first in range(0, len(told), STOOD + 2):
        steadiness, shown = Steadiness(0.8, composure), tuple[Word, ...]()
        for hypothesis in told[first : first + STOOD + 2]:
            now = steadiness.update([Word(f" {text}", 0, 0, 1.0) for text in hypothesis], 0)
            back += sum(a != b for a, b in zip_longest(map(bare, shown), map(bare, now)) if a is not None)
            shown = now
        steadiness.end(())
        back += len(shown)
    # by place, so that a word which moved counts here and not there
    assert back <= 3 * (TAKEN_BACK * REMEMBERED + 1) + 3 * 3


HYPOTHESIS = st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 1)), max_size=6)


@given(st.lists(st.tuples(HYPOTHESIS, st.integers(0, 6)), max_size=6), st.floats(0, 1))
def test_what_is_shown_begins_as_the_hypothesis_does_and_has_what_is_committed(
    told: list[tuple[list[tuple[str, float]], int]], probability: float
) -> None:
    steadiness, before = Steadiness(probability), tuple[Word, ...]()
    for parts, count in told:
        heard = [Word(f" {text}", 0, 0, likely) for text, likely in parts]
        shown = steadiness.update(heard, min(count, len(heard)))
        assert len(shown) >= min(count, len(heard))
        own = tuple(heard[: len(shown)])
        assert shown == own or text_of(shown) == text_of(before)
        before = shown
