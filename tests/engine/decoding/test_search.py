"""Searches against slow twins that look at every text of a tiny vocabulary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from captiond_engine.decoding.passes import ClipPrompt, ClipSearch, Prompt, always, search
from captiond_engine.decoding.search import (
    BeamSearch,
    Candidate,
    Sampling,
    Search,
    best,
    likeliest,
    log_probabilities,
)
from captiond_engine.types import Float32Array
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.decoding.toy import END, PROMPT, Toy, ToyPasses

TOYS = st.builds(Toy, st.integers(3, 6), st.integers(0, 10_000), st.sampled_from([None, 1, 2]))
SMALL_TOYS = st.builds(Toy, st.integers(3, 4), st.integers(0, 10_000))


def log_softmax(logits: Float32Array) -> Float32Array:
    return log_probabilities(logits, np.arange(len(logits)))


def run(
    toy: Toy, machine: Search, *, window: int = 0, width: int = 1, length_penalty: float | None = None
) -> Candidate:
    clip = ClipSearch(ClipPrompt(PROMPT, window, width), machine, (), length_penalty)
    answers = search(ToyPasses(toy), [clip])
    assert answers is not None
    return answers[0].text


def total(toy: Toy, tokens: Sequence[int], window: int = 0) -> float:
    """Sum of log-probabilities of a text, end-of-text included where it is in it."""
    text, summed = list(PROMPT.tokens), np.float32(0)
    for token in tokens:
        summed = np.float32(summed + log_softmax(toy.logits(window, text))[token])
        text.append(token)
    return float(summed)


# --- greedy and drawn --------------------------------------------------------------------------------


@settings(deadline=None)
@given(toy=TOYS, limit=st.integers(1, 8))
def test_greedy_takes_the_likeliest_token_each_time(toy: Toy, limit: int) -> None:
    said: list[int] = []
    while len(said) < limit and END not in said:
        said.append(int(toy.logits(0, (*PROMPT.tokens, *said)).argmax()))
    found = run(toy, Sampling(END, limit))
    assert found.ended == (END in said)
    assert found.tokens == tuple(token for token in said if token != END)
    assert found.total == total(toy, said)
    assert len(found.tokens) == len(found.log_probabilities)


@settings(deadline=None)
@given(toy=TOYS, seed=st.integers(0, 99), temperature=st.sampled_from([0.2, 0.7, 1.0]))
def test_the_same_seed_gives_the_same_text(toy: Toy, seed: int, temperature: float) -> None:
    def drawn() -> Candidate:
        return run(toy, Sampling(END, 9, temperature=temperature, seed=seed))

    assert drawn() == drawn()


@settings(deadline=None)
@given(toy=TOYS, seed=st.integers(0, 99), counts=st.tuples(st.integers(1, 4), st.integers(1, 4)))
def test_a_trajectory_does_not_depend_on_how_many_there_are(
    toy: Toy, seed: int, counts: tuple[int, int]
) -> None:
    """Each draws from a generator of its own."""
    found = []
    for count in counts:
        machine = Sampling(END, 7, temperature=0.8, count=count, seed=seed)
        run(toy, machine, width=count)
        found.append(machine.candidates())
    shared = min(counts)
    assert found[0][:shared] == found[1][:shared]
    for candidate in found[0]:
        said = [*candidate.tokens, *[END] * candidate.ended]
        assert candidate.total == total(toy, said)
        assert len(said) == 7 or candidate.ended


def test_other_seeds_and_temperatures_give_other_texts() -> None:
    toy = Toy(50)
    texts = [run(toy, Sampling(END, 12, temperature=t, seed=s)).tokens for s in range(4) for t in (0.9, 1.0)]
    assert len(set(texts)) == len(texts)


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    """4000 trajectories of one token each; five standard deviations."""
    toy, count, temperature = Toy(6, seed=3), 4_000, 0.7
    machine = Sampling(END, 1, temperature=temperature, count=count)
    run(toy, machine, width=count)
    tokens = Counter(candidate.tokens[0] if candidate.tokens else END for candidate in machine.candidates())
    shares = np.exp(log_softmax(toy.logits(0, PROMPT.tokens) / np.float32(temperature)))
    for token, share in enumerate(shares):
        assert abs(tokens[token] - count * share) < 5 * np.sqrt(count * share * (1 - share))


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=2, max_size=30).filter(lambda blocked: not all(blocked)))
def test_what_is_blocked_is_never_drawn(blocked: list[bool]) -> None:
    logits = np.where(blocked, -np.inf, 0).astype(np.float32)[None]
    for seed in range(20):
        machine = Sampling(-1, 1, temperature=1.0, seed=seed)
        machine.advance(logits.copy())
        [candidate] = machine.candidates()
        assert not blocked[candidate.tokens[0]]
        assert np.isfinite(candidate.total)


def test_a_draw_at_the_very_end_is_a_token() -> None:
    class Highest:
        def random(self) -> float:
            return 1 - 2**-53

    machine = Sampling(-1, 1, temperature=1.0)
    machine._draws = [Highest()]  # type: ignore[list-item]
    logits = np.array([[0.1, 0.3, -np.inf, -np.inf]], np.float32)
    machine.advance(logits)
    assert machine.candidates()[0].tokens == (1,)


@settings(deadline=None)
@given(toy=SMALL_TOYS, seed=st.integers(0, 99), alpha=st.sampled_from([None, 0.0, 0.6, 1.0]))
def test_best_of_takes_the_likeliest_for_its_length(toy: Toy, seed: int, alpha: float | None) -> None:
    machine = Sampling(END, 6, temperature=1.0, count=5, seed=seed)
    chosen = run(toy, machine, width=5, length_penalty=alpha)
    assert score(chosen, alpha) == max(score(candidate, alpha) for candidate in machine.candidates())


def score(candidate: Candidate, alpha: float | None) -> float:
    length = len(candidate.tokens)
    return candidate.total / (max(1, length) if alpha is None else ((5 + length) / 6) ** alpha)


# --- beams -------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(toy=SMALL_TOYS, limit=st.integers(1, 4), alpha=st.sampled_from([None, 0.0, 0.6, 1.0]))
def test_beams_as_many_as_there_are_texts_find_the_best_of_all(
    toy: Toy, limit: int, alpha: float | None
) -> None:
    texts = [text for length in range(limit) for text in product(range(1, toy.vocabulary), repeat=length)]
    ended = [(total(toy, (*text, END)), text) for text in texts]
    whole = product(range(1, toy.vocabulary), repeat=limit)
    every = [Candidate(text, (), summed, True) for summed, text in ended]
    every += [Candidate(text, (), total(toy, text), False) for text in whole]
    width = len(every)
    found = run(
        toy,
        BeamSearch(END, limit, beam_size=width, most_finished=width + 1),
        width=width,
        length_penalty=alpha,
    )
    assert score(found, alpha) == max(score(candidate, alpha) for candidate in every)


def beams_by_hand(
    toy: Toy, limit: int, size: int, most: int
) -> tuple[list[tuple[tuple[int, ...], float]], int]:
    """The same search in another form: all continuations of all beams, in one sorted list, each step.

    Gives its candidates, with end-of-text where they have it, and how many passes it took.
    """
    beams: list[tuple[tuple[int, ...], np.float32]] = [((), np.float32(0))]
    finished: list[tuple[tuple[int, ...], float]] = []
    steps = 0
    while steps < limit and beams and len(finished) < most:
        steps += 1
        every = []
        for place, (text, summed) in enumerate(beams):
            logs = log_softmax(toy.logits(0, (*PROMPT.tokens, *text)))
            ranks = sorted(range(len(logs)), key=lambda token, logs=logs: (-logs[token], token))  # type: ignore[misc]
            for rank, token in enumerate(ranks[: size + 1]):
                every.append((-float(np.float32(summed + logs[token])), place, rank, (*text, token)))
        beams = []
        for negative, _, _, text in sorted(every):
            if len(beams) == size:
                break
            if text[-1] != END:
                beams.append((text, np.float32(-negative)))
            elif len(finished) < most:
                finished.append((text, -negative))
    order = np.argsort([summed for _, summed in beams])[::-1]
    filled = [(beams[i][0], float(beams[i][1])) for i in order[: max(0, size - len(finished))]]
    return finished + filled, steps


@settings(deadline=None)
@given(toy=TOYS, limit=st.integers(1, 6), size=st.integers(1, 4), patience=st.sampled_from([0.5, 1.0, 2.0]))
def test_beams_are_those_of_the_slow_twin(toy: Toy, limit: int, size: int, patience: float) -> None:
    """With ties, too: equal scores keep the order of beams and ranks."""
    most = max(1, round(size * patience))
    machine = BeamSearch(END, limit, beam_size=size, most_finished=most)
    passes = ToyPasses(toy)
    search(passes, [ClipSearch(ClipPrompt(PROMPT, 0, size), machine)])
    expected, steps = beams_by_hand(toy, limit, size, most)
    said = [((*c.tokens, *[END] * c.ended), c.total) for c in machine.candidates()]
    assert said == expected
    assert passes.passes == steps


@settings(deadline=None)
@given(toy=TOYS, limit=st.integers(1, 8))
def test_one_beam_without_patience_is_greedy(toy: Toy, limit: int) -> None:
    """But that it reads on past an end until a text has ended."""
    greedy = run(toy, Sampling(END, limit))
    beam = BeamSearch(END, limit, beam_size=1, most_finished=1)
    run(toy, beam)
    candidates = beam.candidates()
    if greedy.ended:
        assert greedy in candidates
    else:
        assert candidates[0].tokens[: len(greedy.tokens)] == greedy.tokens or candidates[0].ended


@settings(deadline=None)
@given(toy=TOYS, scale=st.sampled_from([1, 300]), count=st.integers(1, 9), ties=st.sampled_from([None, 1, 4]))
def test_the_likeliest_tokens_are_those_of_a_whole_sort(
    toy: Toy, scale: int, count: int, ties: int | None
) -> None:
    """Across blocks, with ties and blocked tokens."""
    logits = Toy(toy.vocabulary * scale, toy.seed, ties).logits(0, ())
    logits[:: 1 + toy.seed % 5] = -np.inf
    expected = sorted(range(len(logits)), key=lambda token: (-logits[token], token))[:count]
    if np.isfinite(logits).any():
        tokens, logs = likeliest(logits, count)
        assert tokens.tolist() == expected
        np.testing.assert_array_equal(logs, log_softmax(logits)[expected])


@settings(deadline=None)
@given(toy=TOYS)
def test_log_probabilities_are_those_of_softmax(toy: Toy) -> None:
    logits = toy.logits(0, ())
    exact = logits.astype(np.float64) - np.log(np.exp(logits.astype(np.float64)).sum())
    np.testing.assert_allclose(log_softmax(logits), exact, atol=1e-6)


def test_of_equal_candidates_the_first_is_chosen() -> None:
    one, other = Candidate((1,), (-1.0,), -1.0, True), Candidate((2,), (-1.0,), -1.0, True)
    assert best([one, other], None) is one
    assert best([other, one], 1.0) is other


def test_a_text_of_no_tokens_can_be_ranked() -> None:
    """By which the reference divides."""
    empty, word = Candidate((), (), -0.5, True), Candidate((1, 2), (-1.0, -1.0), -3.0, True)
    assert best([word, empty], None) is empty


# --- several clips ------------------------------------------------------------------------------------

MACHINES: list[dict[str, Any]] = [
    {"kind": "greedy"},
    {"kind": "drawn", "temperature": 0.6, "count": 1},
    {"kind": "drawn", "temperature": 1.0, "count": 3},
    {"kind": "beams", "beam_size": 2, "most_finished": 2},
    {"kind": "beams", "beam_size": 3, "most_finished": 6},
]


def machine_of(wanted: dict[str, Any], limit: int) -> tuple[Search, int]:
    rest = {key: value for key, value in wanted.items() if key != "kind"}
    if wanted["kind"] == "beams":
        return BeamSearch(END, limit, **rest), wanted["beam_size"]
    return Sampling(END, limit, seed=5, **rest), wanted.get("count", 1)


@settings(deadline=None)
@given(
    toy=TOYS,
    asked=st.lists(st.tuples(st.sampled_from(MACHINES), st.integers(1, 7)), min_size=1, max_size=5),
)
def test_clips_that_share_passes_say_what_each_says_alone(
    toy: Toy, asked: list[tuple[dict[str, Any], int]]
) -> None:
    """Prompts of unequal length, searches of all kinds that end at unequal times."""

    def clip(number: int) -> ClipSearch:
        machine, width = machine_of(*asked[number])
        prompt = Prompt((3, 1, *[2] * number), 1)
        return ClipSearch(ClipPrompt(prompt, number, width), machine, (), 0.6)

    passes = ToyPasses(toy)
    together = search(passes, [clip(number) for number in range(len(asked))])
    assert together is not None
    alone, longest = [], 0
    for number in range(len(asked)):
        single = ToyPasses(toy)
        answers = search(single, [clip(number)])
        assert answers is not None
        alone += answers
        longest = max(longest, single.passes)
    assert together == alone
    assert passes.passes == longest
    assert [answer.no_speech for answer in together] == pytest.approx(
        [1 / (2 + n) for n in range(len(asked))]
    )


@settings(deadline=None)
@given(toy=TOYS, allowed=st.integers(0, 6))
def test_a_search_that_may_not_go_on_gives_no_answer(toy: Toy, allowed: int) -> None:
    asked = 0

    def may_go_on() -> bool:
        nonlocal asked
        asked += 1
        return asked <= allowed

    passes = ToyPasses(toy)
    answers = search(passes, [ClipSearch(ClipPrompt(PROMPT, 0), Sampling(END, 5))], may_go_on)
    whole = ToyPasses(toy)
    expected = search(whole, [ClipSearch(ClipPrompt(PROMPT, 0), Sampling(END, 5))], always)
    if whole.passes - 1 <= allowed:
        assert answers == expected
    else:
        assert answers is None
        assert passes.passes == allowed + 1


@settings(deadline=None)
@given(
    vocabulary=st.integers(6, 12),
    seed=st.integers(0, 9_999),
    limit=st.integers(1, 6),
    size=st.integers(1, 4),
    patience=st.sampled_from([None, 0.5, 1.0, 2.0]),
)
def test_beams_are_the_references(
    vocabulary: int, seed: int, limit: int, size: int, patience: float | None
) -> None:
    """openai-whisper's own BeamSearchDecoder over the same logits, and its choice for the same penalties."""
    torch = pytest.importorskip("torch", reason="the extra 'parity' is not installed")
    decoding = pytest.importorskip("whisper.decoding", reason="the extra 'parity' is not installed")
    toy, most = Toy(vocabulary, seed), round(size * (patience or 1.0))
    if most < 1:
        return
    moved = SimpleNamespace(rearrange_kv_cache=lambda parents: None)
    theirs = decoding.BeamSearchDecoder(size, END, moved, patience)
    tokens, sums = torch.tensor([PROMPT.tokens] * size), torch.zeros(size)
    for _ in range(limit):
        logits = torch.from_numpy(np.stack([toy.logits(0, row) for row in tokens.tolist()]))
        tokens, completed = theirs.update(tokens, logits, sums)
        if completed:
            break
    [texts], [totals] = theirs.finalize(tokens[None], sums[None])
    machine = BeamSearch(END, limit, beam_size=size, most_finished=most)
    run(toy, machine, width=size)
    ours = machine.candidates()
    begin = len(PROMPT.tokens)
    cut = [text[begin : begin + text[begin:].tolist().index(END)] for text in texts]
    assert [candidate.tokens for candidate in ours] == [tuple(text.tolist()) for text in cut]
    np.testing.assert_allclose([candidate.total for candidate in ours], totals, atol=1e-4)
    for alpha in (None, 0.0, 0.6, 1.0):
        if all(len(text) for text in cut) or alpha is not None:
            [choice] = decoding.MaximumLikelihoodRanker(alpha).rank([cut], [totals])
            assert best(ours, alpha) is ours[choice]
