"""When words are told for good: by agreement, or by where they were heard; and nothing is taken back."""

from __future__ import annotations

import pytest
from captiond_engine.decoding.commit import LIKELY, POLICIES, AlignAtt, LocalAgreement2, open_policy
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


def test_an_unlikely_word_is_not_agreed_on_nor_what_follows_it() -> None:
    policy = LocalAgreement2()
    said = [
        Word(" turn", 0, 0, 0.9),
        Word(" off", 0, 0, LIKELY - 0.01),
        Word(" the", 0, 0, 0.9),
        Word(" light", 0, 0, 0.9),
    ]
    for revision in (1, 2, 3):
        told = policy.update(Hypothesis(1, revision, tuple(said), heard_until=0, last=False), 0)
    assert told == 1
    said[1] = Word(" on", 0, 0, LIKELY)
    assert policy.update(Hypothesis(1, 4, tuple(said), heard_until=0, last=False), 1) == 1
    assert policy.update(Hypothesis(1, 5, tuple(said), heard_until=0, last=False), 1) == 3


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


def test_agreement_on_a_loop_is_none() -> None:
    policy = LocalAgreement2()
    policy.update(hypothesis(["well", *["la"] * 8]), 0)
    assert policy.update(hypothesis(["well", *["la"] * 9]), 0) == 2


# --- by attention ------------------------------------------------------------------------------------


def heeding(*samples: int | None, heard_until: int, last: bool = False) -> Hypothesis:
    words = tuple(Word(f" w{i}", 0, 0, 1.0, heeded=sample) for i, sample in enumerate(samples))
    return Hypothesis(1, 1, words, heard_until, last)


def test_what_was_heard_well_before_the_end_is_committed_at_once() -> None:
    assert AlignAtt(1_000).update(heeding(500, 3_000, 4_500, heard_until=5_000), 0) == 2


def test_nothing_is_committed_behind_a_word_that_is_held_back() -> None:
    assert AlignAtt(1_000).update(heeding(500, 4_900, 600, heard_until=5_000), 0) == 1


def test_a_word_is_held_back_where_it_is_not_known_what_was_heeded() -> None:
    assert AlignAtt(1_000).update(heeding(500, None, 600, heard_until=5_000), 0) == 1


def test_the_last_hypothesis_is_committed_whole_by_any_policy() -> None:
    for name in POLICIES:
        policy = open_policy(name, 1_000)
        assert policy.update(heeding(4_999, None, heard_until=5_000, last=True), 0) == 2


def test_attention_to_a_loop_commits_its_first_turn() -> None:
    words = tuple(Word(" la", 0, 0, 1.0, heeded=10) for _ in range(9))
    assert AlignAtt(0).update(Hypothesis(1, 1, words, 5_000, last=False), 0) == 1


@given(st.lists(st.lists(st.integers(0, 6_000) | st.none(), max_size=6), max_size=6), st.integers(0, 3_000))
def test_attention_never_takes_back(passes: list[list[int | None]], hold: int) -> None:
    policy, committed = AlignAtt(hold), 0
    for number, heeded in enumerate(passes, 1):
        found = policy.update(heeding(*heeded, heard_until=1_000 * number), committed)
        assert found >= committed
        committed = found


def test_a_policy_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'guess'; there are: local-agreement, align-att"):
        open_policy("guess", 0)
