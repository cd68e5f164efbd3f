"""The closed trie against brute force over all labels: softmax at every beginning that several labels share."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behaviorlm.trees.closed_trie import ClosedTrie, build_closed_trie
from behaviorlm.trees.label_trie import build_tries

TERMINATOR = 99
LABELS = st.lists(
    st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=25, unique_by=tuple
)


def with_terminator(labels: list[list[int]]) -> list[np.ndarray]:
    return [np.array([*label, TERMINATOR], dtype=np.int32) for label in labels]


def logit(beginning: list[int], token: int) -> float:
    """Any function of both."""
    return float((hash((tuple(beginning), token)) % 2000) / 200)


def brute_force(ids: list[np.ndarray]) -> np.ndarray:
    """log p of each label: at each of its beginnings, the softmax over what follows there in any label."""
    labels = [label.tolist() for label in ids]
    scores = np.zeros(len(labels))
    for number, label in enumerate(labels):
        for at in range(len(label)):
            beginning = label[:at]
            next_tokens = sorted(
                {other[at] for other in labels if other[:at] == beginning and len(other) > at}
            )
            logits = np.array([logit(beginning, token) for token in next_tokens])
            scores[number] += logit(beginning, label[at]) - np.log(np.exp(logits).sum())
    return scores


def choice_log_probabilities(trie: ClosedTrie) -> np.ndarray:
    """Of every child of a branching node, from the tokens that its piece holds down to the node."""
    found = np.full(len(trie.child_token), np.nan)
    for piece in trie.pieces:
        for branch, place in zip(piece.branches, piece.places, strict=True):
            path = [] if place < 0 else piece.tree.token_ids[piece.tree.path_to(int(place))].tolist()
            children = slice(trie.child_start[branch], trie.child_start[branch + 1])
            logits = np.array([logit(path, int(token)) for token in trie.child_token[children]])
            assert np.isnan(found[children]).all()  # each in one piece only
            found[children] = logits - np.log(np.exp(logits).sum())
    return found


@given(LABELS, st.integers(1, 12))
def test_scores_are_those_of_brute_force_however_the_trie_is_cut(
    labels: list[list[int]], max_nodes: int
) -> None:
    ids = with_terminator(labels)
    trie = build_closed_trie(ids, max_nodes)
    scores = trie.label_scores(choice_log_probabilities(trie)[None])[0]
    np.testing.assert_allclose(scores, brute_force(ids), rtol=0, atol=1e-12)
    assert np.exp(scores).sum() == pytest.approx(1, abs=1e-12)
    for piece in trie.pieces:
        assert len(piece.tree) <= max_nodes or len(piece.branches) == 1


@given(LABELS)
def test_only_branching_nodes_and_what_is_above_them_are_there(labels: list[list[int]]) -> None:
    ids = [label.tolist() for label in with_terminator(labels)]
    beginnings = {tuple(label[:length]) for label in ids for length in range(len(label))}
    branching = {
        beginning
        for beginning in beginnings
        if len({label[len(beginning)] for label in ids if tuple(label[: len(beginning)]) == beginning}) > 1
    }
    needed = {branch[:length] for branch in branching for length in range(1, len(branch) + 1)}
    trie = build_closed_trie(with_terminator(labels), 10_000)
    assert trie.nodes == len(needed)
    assert len(trie.child_start) - 1 == len(branching)
    # every label but the first of a branching node's children adds one choice
    assert len(trie.child_token) == len(labels) - 1 + len(branching)


@pytest.mark.parametrize("behaviors", [1_000, 10_000])
@pytest.mark.parametrize("max_nodes", [64, 100_000])
def test_all_of_many_labels_sum_to_one(behaviors: int, max_nodes: int) -> None:
    random = np.random.default_rng(behaviors)
    distinct = {tuple(random.integers(0, 12, random.integers(1, 9)).tolist()) for _ in range(3 * behaviors)}
    labels = [list(label) for label in sorted(distinct)][:behaviors]
    random.shuffle(labels)
    assert len(labels) == behaviors
    trie = build_closed_trie(with_terminator(labels), max_nodes)
    assert (len(trie.pieces) > 1) == (max_nodes == 64)
    scores = trie.label_scores(choice_log_probabilities(trie)[None])[0]
    assert np.exp(scores).sum() == pytest.approx(1, abs=1e-9)


def test_an_only_label_is_certain_and_asks_nothing_of_a_model() -> None:
    trie = build_closed_trie(with_terminator([[1, 2, 3]]), 10)
    assert trie.pieces == () and trie.nodes == 0
    assert trie.label_scores(np.zeros((2, 0))).tolist() == [[0.0], [0.0]]


def test_names_that_begin_others_are_told_apart_by_the_terminator() -> None:
    trie = build_closed_trie(with_terminator([[1], [1, 2], [1, 2, 3]]), 10)
    (piece,) = trie.pieces
    assert piece.tree.token_ids.tolist() == [1, 2]
    assert trie.child_token.tolist() == [2, TERMINATOR, 3, TERMINATOR]
    scores = trie.label_scores(np.log([[0.25, 0.75, 0.4, 0.6]]))[0]
    np.testing.assert_allclose(np.exp(scores), [0.75, 0.25 * 0.6, 0.25 * 0.4])


def test_a_label_that_begins_another_needs_a_terminator() -> None:
    for build in (build_closed_trie, build_tries):
        with pytest.raises(ValueError, match="terminator"):
            build([np.array([1, 2], np.int32), np.array([1, 2, 3], np.int32)], 100)


def test_cut_and_whole_tries_have_the_same_choices() -> None:
    labels = with_terminator([list(label) for label in itertools.product(range(3), repeat=4)])
    whole, cut = build_closed_trie(labels, 1000), build_closed_trie(labels, 5)
    assert len(cut.pieces) > 3 and len(whole.pieces) == 1
    for name in ("child_start", "child_token", "parent", "label_child"):
        assert (getattr(whole, name) == getattr(cut, name)).all()


@given(LABELS, st.data())
def test_the_choices_on_the_paths_of_some_labels_tell_their_scores(
    labels: list[list[int]], data: st.DataObject
) -> None:
    ids = with_terminator(labels)
    number = st.integers(0, len(ids) - 1)
    some = np.array(data.draw(st.lists(number, min_size=1, unique=True)))
    whole = build_closed_trie(ids, 1 << 40)
    if not whole.pieces:  # an only label
        return
    few = whole.among(some)
    scores = few.label_scores(choice_log_probabilities(few)[None])
    np.testing.assert_allclose(scores[0], brute_force(ids)[some], rtol=1e-12, atol=1e-12)
    assert few.nodes <= whole.nodes and len(few.child_token) <= len(whole.child_token)
    assert few.among(np.arange(len(some))).nodes == few.nodes
