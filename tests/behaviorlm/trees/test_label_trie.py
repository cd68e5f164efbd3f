"""The label trie against sums over each label's own tokens."""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behaviorlm.trees.label_trie import build_tries, even_groups

TERMINATOR = 99
LABELS = st.lists(
    st.lists(st.integers(0, 3), min_size=1, max_size=5), min_size=1, max_size=25, unique_by=tuple
)


def with_terminator(labels: list[list[int]]) -> list[np.ndarray]:
    return [np.array([*label, TERMINATOR], dtype=np.int32) for label in labels]


@given(LABELS, st.integers(1, 12))
def test_every_label_is_the_sum_of_its_own_edges(labels: list[list[int]], max_nodes: int) -> None:
    ids = with_terminator(labels)
    found = {}
    for trie in build_tries(ids, max_nodes):
        # the log-probability of a token after a beginning: any function of both
        edges = np.zeros((1, len(trie.edge_target)))
        for edge in range(len(trie.edge_target)):
            source = trie.edge_source[edge]
            beginning = (
                []
                if source < 0
                else trie.tree.token_ids[np.flatnonzero(trie.tree.end[: source + 1] > source)].tolist()
            )
            edges[0, edge] = value_of(beginning, int(trie.edge_target[edge]))
        for label, score in zip(trie.labels, trie.label_scores(edges)[0], strict=True):
            assert label not in found
            found[int(label)] = score
    assert sorted(found) == list(range(len(labels)))
    for label, score in found.items():
        tokens = ids[label].tolist()
        assert score == pytest.approx(sum(value_of(tokens[:at], tokens[at]) for at in range(len(tokens))))


@given(LABELS, st.integers(1, 12))
def test_a_trie_has_no_more_nodes_than_asked_unless_one_label_alone_needs_them(
    labels: list[list[int]], max_nodes: int
) -> None:
    for trie in build_tries(with_terminator(labels), max_nodes):
        assert len(trie.tree) <= max_nodes or len(trie.labels) == 1


@given(LABELS.map(lambda labels: sorted(labels)[:8]), st.integers(1, 12), st.integers(0, 1))
def test_groups_are_as_few_as_can_be_and_then_as_even(
    labels: list[list[int]], most: int, uncounted: int
) -> None:
    labels = [[*ids, TERMINATOR][: len(ids) + uncounted] for ids in labels]

    def largest(cuts: tuple[int, ...]) -> int:
        return max(
            len(
                {tuple(ids[:end]) for ids in labels[first:stop] for end in range(1, len(ids) + 1 - uncounted)}
            )
            for first, stop in pairwise([0, *cuts, len(labels)])
        )

    ways = [
        tuple(place for place, is_cut in enumerate(cut, 1) if is_cut)
        for cut in product([False, True], repeat=len(labels) - 1)
    ]
    alone = max(len(ids) - uncounted for ids in labels)
    allowed = [cuts for cuts in ways if largest(cuts) <= max(most, alone)]
    groups = even_groups([np.array(ids, np.int32) for ids in labels], uncounted, most)
    found = tuple(first for first, _ in groups[1:])
    assert groups == list(pairwise([0, *found, len(labels)]))
    if alone <= most:
        fewest = min(map(len, allowed))
        assert len(found) == fewest
        assert largest(found) == min(largest(cuts) for cuts in allowed if len(cuts) == fewest)


@given(LABELS)
def test_one_trie_stores_each_beginning_once(labels: list[list[int]]) -> None:
    beginnings = {tuple(label[:length]) for label in labels for length in range(1, len(label) + 1)}
    (trie,) = build_tries(with_terminator(labels), 1000)
    assert len(trie.tree) == len(beginnings)


def test_a_label_that_begins_another_needs_a_terminator() -> None:
    with pytest.raises(ValueError, match="terminator"):
        build_tries([np.array([1, 2], np.int32), np.array([1, 2, 3], np.int32)], 100)
    (trie,) = build_tries(with_terminator([[1, 2], [1, 2, 3]]), 100)
    assert len(trie.tree) == 3


def value_of(beginning: list[int], token: int) -> float:
    return -float((hash((tuple(beginning), token)) % 1000) / 100)
