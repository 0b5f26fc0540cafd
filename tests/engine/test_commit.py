"""LocalAgreement-2: two hypotheses in a row must agree, and nothing is taken back."""

from __future__ import annotations

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
    assert policy.update(hypothesis(["turn", "on", "the", "lights"]), 2) == 3


def test_agreement_that_is_interrupted_begins_anew() -> None:
    policy = LocalAgreement2()
    for texts in (["a", "b"], ["x", "b"], ["a", "b"]):
        assert policy.update(hypothesis(texts), 0) == 0


def test_what_was_committed_stays_so_when_a_hypothesis_disagrees() -> None:
    policy = LocalAgreement2()
    policy.update(hypothesis(["a", "b"]), 0)
    policy.update(hypothesis(["a", "b"]), 0)
    assert policy.update(hypothesis(["c"]), 2) == 2


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
        committed, previous = now, current
