"""LocalAgreement-2: two hypotheses in a row must agree, and nothing is taken back."""

from __future__ import annotations

import pytest
from captiond_engine.decoding.commit import LocalAgreement2
from captiond_engine.types import Hypothesis, Word
from hypothesis import given
from hypothesis import strategies as st


def hypothesis(texts: list[str], revision: int = 1, *, last: bool = False) -> Hypothesis:
    words = tuple(Word(f" {text}", 0, 0, 1.0) for text in texts)
    return Hypothesis(1, revision, words, heard_until=0, last=last)


def test_the_first_hypothesis_commits_nothing() -> None:
    assert LocalAgreement2().update(hypothesis(["turn", "on"]), 0) == 0


def test_what_two_in_a_row_agree_on_from_the_start_is_committed() -> None:
    policy = LocalAgreement2()
    policy.update(hypothesis(["turn", "on", "a"]), 0)
    assert policy.update(hypothesis(["turn", "on", "the", "light"]), 0) == 2
    assert policy.update(hypothesis(["turn", "on", "the", "lights", "now"]), 2) == 3


@pytest.mark.parametrize("earlier", [["seven."], ["seven.", "two"]])
@pytest.mark.parametrize("later", [["seven."], ["seven.", "two", "five"]])
def test_the_last_word_of_either_hypothesis_is_held_back(earlier: list[str], later: list[str]) -> None:
    policy = LocalAgreement2()
    policy.update(hypothesis(earlier), 0)
    assert policy.update(hypothesis(later), 0) == min(len(earlier), len(later)) - 1


def test_agreement_that_is_interrupted_begins_anew() -> None:
    policy = LocalAgreement2()
    for texts in (["a", "b"], ["x", "b"], ["a", "b"]):
        assert policy.update(hypothesis(texts), 0) == 0


def test_what_was_committed_stays_so_when_a_hypothesis_disagrees() -> None:
    policy = LocalAgreement2()
    policy.update(hypothesis(["a", "b", "c"]), 0)
    assert policy.update(hypothesis(["a", "b", "c"]), 0) == 2
    assert policy.update(hypothesis(["d"]), 2) == 2


def test_the_last_hypothesis_is_committed_whole() -> None:
    policy = LocalAgreement2()
    policy.update(hypothesis(["a"]), 0)
    assert policy.update(hypothesis(["x", "y", "z"], last=True), 0) == 3


@given(st.lists(st.lists(st.sampled_from("ab"), max_size=5), max_size=8))
def test_the_count_never_falls_and_is_never_more_than_two_hypotheses_share(texts: list[list[str]]) -> None:
    policy = LocalAgreement2()
    committed = 0
    previous: list[str] = []
    for revision, current in enumerate(texts):
        now = policy.update(hypothesis(current, revision), committed)
        assert now >= committed
        assert now == committed or current[:now] == previous[:now]
        assert now == committed or now < min(len(current), len(previous))
        committed, previous = now, current
