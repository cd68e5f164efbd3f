"""Answers read: rankings as people and models write them, and probabilities along tokens against a whole tree."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behaviorlm.metrics.outcomes import outcomes
from behaviorlm_ray.endpoints.answers import (
    LEAST,
    Heard,
    Names,
    ranked_scores,
    ranking_of,
    token_scores,
)

VOCABULARY = ["lamp on", "lamp off", "door", "door open", "Pay, the bill", "PAY, THE BILL", "3. floor"]
NAMES = Names(VOCABULARY)


@pytest.mark.parametrize(
    ("answer", "ranking", "heard"),
    [
        ("lamp on\ndoor\nlamp off", [0, 2, 1], Heard(1, 0, 3)),
        ("1. lamp on\n2) `Door open`\n- **lamp off**\n", [0, 3, 1], Heard(1, 0, 3)),
        ("Wed 19: lamp on", [0], Heard(1, 0, 1)),
        ("lamp on, door, window", [0, 2], Heard(1, 0, 2, 0, 1)),
        ("3. floor\n3. door", [6, 2], Heard(1, 0, 2)),
        ("Pay, the bill\nPAY, THE BILL", [4, 5], Heard(1, 0, 2)),
        ("door\nDOOR\ndoor", [2], Heard(1, 0, 1, 2)),
        ("I cannot say.\n\n  ", [], Heard(1, 1, 0, 0, 1)),
        ("", [], Heard(1, 1)),
    ],
)
def test_a_ranking_is_read_as_it_is_written_and_what_is_none_is_counted(
    answer: str, ranking: list[int], heard: Heard
) -> None:
    assert ranking_of(answer, NAMES) == (ranking, heard)


def test_a_spelling_that_two_names_share_names_neither() -> None:
    assert NAMES.find("pay, The bill") is None
    assert ranking_of("pay, the Bill", NAMES)[1].outside == 2  # nor do its pieces


@given(st.permutations(range(7)), st.integers(0, 7), st.integers(0, 6))
def test_places_of_a_ranking_are_the_ranks_that_metrics_see(
    order: list[int], named: int, target: int
) -> None:
    scores = ranked_scores(order[:named], 7)
    whole = [*order[:named], *sorted(order[named:])]
    found = outcomes(scores[None], np.array([target]))
    assert found.rank[0] == whole.index(target) and found.predicted[0] == whole[0]
    if named:
        assert scores[order[0]] - scores[order[named - 1]] == pytest.approx(math.log(named), abs=1e-6)


def test_names_that_begin_with_different_tokens_get_what_these_are_given() -> None:
    shares = {" door": 0.5, " lamp": 0.2, " Pay": 0.1, " 3": 0.05, " nothing": 0.05}
    steps = [(" door", {token: math.log(share) for token, share in shares.items()})]
    scores, heard = token_scores(
        steps, Names(["door", "lamp on", "Pay, the bill", "3. floor", "sleep", "eat"])
    )
    np.testing.assert_allclose(np.exp(scores) - LEAST, [0.5, 0.2, 0.1, 0.05, 0.05, 0.05], atol=1e-6)
    assert heard == Heard(1, 0, 1)


WORDS = ("a", "b", "ab", "c d", "x")
TREES = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=3), min_size=2, max_size=8)


@given(TREES, st.integers(0, 1000), st.data())
def test_along_a_path_each_branch_gets_its_share_of_a_whole_tree(
    paths: list[list[str]], seed: int, data: st.DataObject
) -> None:
    """Against a walk over names as tuples of tokens, each ended by an end of its own, so that none begins another."""
    names = sorted({(*(f" {word}" for word in path), " end") for path in paths})
    texts = ["".join(name).strip() for name in names]
    if len(set(texts)) < len(texts) or len(texts) < 2:
        return
    random = np.random.default_rng(seed)
    answer = data.draw(st.sampled_from(names))
    expected = dict.fromkeys(names, 0.0)
    steps, mass = [], 1.0
    for depth, token in enumerate(answer):
        inside = [name for name in names if name[:depth] == answer[:depth]]
        nexts = sorted({name[depth] for name in inside})
        shares = dict(zip(nexts, random.dirichlet(np.ones(len(nexts))), strict=True))
        if len({one.strip()[0] for one in nexts}) < len(nexts):
            return  # where a token is the beginning of another, text alone does not tell them apart
        steps.append((token, {one: math.log(share) for one, share in shares.items()}))
        for other in nexts:
            branch = [name for name in inside if name[depth] == other]
            if other != token:
                for name in branch:
                    expected[name] += mass * shares[other] / len(branch)
        mass *= shares[token]
    expected[answer] += mass
    scores, heard = token_scores(steps, Names(texts))
    np.testing.assert_allclose(np.exp(scores) - LEAST, [expected[name] for name in names], atol=2e-6)
    assert heard == Heard(1, 0, 1) and (np.exp(scores) - LEAST).sum() == pytest.approx(1, abs=1e-5)


def test_an_answer_that_leaves_the_vocabulary_names_nothing() -> None:
    steps = [(" the", {" the": math.log(0.6), " door": math.log(0.3)}), (" sky", {" sky": 0.0})]
    scores, heard = token_scores(steps, Names(["door", "lamp"]))
    np.testing.assert_allclose(np.exp(scores) - LEAST, [0.3, 0.1], atol=1e-6)
    assert heard == Heard(1, 1, 0, 0, 1)
    assert token_scores([], Names(["door", "lamp"]))[1].answers == 1


def test_an_answer_that_ends_within_two_names_is_the_shorter_one() -> None:
    scores, _ = token_scores([(" door", {" door": math.log(0.9)})], Names(["door", "door open", "lamp"]))
    np.testing.assert_allclose(np.exp(scores) - LEAST, [0.9, 0, 0.1], atol=1e-6)
