"""Where a text begins to go in circles."""

from __future__ import annotations

import pytest
from captiond_engine.decoding.loops import LONGEST_PERIOD, before_loop
from captiond_engine.types import Word
from hypothesis import given
from hypothesis import strategies as st


def words(text: str) -> list[Word]:
    return [Word(f" {part}", 0, 0, 1.0) for part in text.split()]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", 0),
        ("turn on the light", 4),
        ("no no no", 3),  # people say so
        ("four four four four seven", 5),
        ("la la la la la la", 1),
        ("the price is ten ten ten ten ten ten", 4),
        ("thank you thank you thank you", 6),
        ("thank you. thank you. thank you. thank you.", 2),
        ("go on and on and on and on and on", 3),
        ("we are here we are here we are here", 3),
        ("so we are here we are here we are here now then", 4),
        ("we are here we are here now then", 8),
    ],
)
def test_the_first_turn_of_a_loop_is_kept(text: str, kept: int) -> None:
    assert before_loop(words(text)) == kept


@given(
    st.lists(st.sampled_from("abcd"), max_size=6),
    st.lists(st.sampled_from("efgh"), min_size=1, max_size=LONGEST_PERIOD, unique=True),
    st.integers(6, 9),
)
def test_nothing_said_before_a_loop_is_taken_for_one(head: list[str], turn: list[str], turns: int) -> None:
    kept = before_loop(words(" ".join([*head, *turn * turns])))
    assert kept <= len(head) + len(turn)
    assert kept >= min(len(head), 1)


@given(st.lists(st.sampled_from("abcdefghijklmnop"), unique=True))
def test_a_text_without_repetition_has_no_loop(parts: list[str]) -> None:
    assert before_loop(words(" ".join(parts))) == len(parts)
