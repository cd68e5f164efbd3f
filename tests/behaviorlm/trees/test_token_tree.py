"""The flattened tree against a tree of explicit parents."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behaviorlm.trees.token_tree import TokenTree, TreeWriter, plain_sequences

ACTIONS = st.lists(
    st.tuples(st.sampled_from(["open", "leaf", "close", "predicted"]), st.integers(1, 3)), max_size=30
)


def build(actions: list[tuple[str, int]]) -> tuple[TokenTree, list[int]]:
    """A tree from random actions, and each token's parent kept by hand (-1: a root)."""
    writer = TreeWriter()
    parents: list[int] = []
    tips = [-1]
    item = 0

    def lay(count: int) -> None:
        tip = tips[-1]
        for _ in range(count):
            parents.append(tip)
            tip = len(parents) - 1
        tips.append(tip)

    for action, count in actions:
        ids = np.arange(count, dtype=np.int32) + 10
        if action == "open":
            writer.open(ids)
            lay(count)
        elif action == "leaf":
            writer.leaf(ids)
            lay(count)
            tips.pop()
        elif action == "close" and len(tips) > 1:
            writer.close()
            tips.pop()
        elif action == "predicted" and len(tips) > 1:
            written = np.concatenate([ids[: count - 1], ids])
            is_label = np.arange(len(written)) >= count - 1
            writer.chain(written, is_label, weight=0.5, part=0, item=item)
            lay(count - 1 + count - 1)
            tips.pop()
            item += 1
    return writer.finish(), parents


def ancestors(parents: list[int], token: int) -> list[int]:
    path = []
    while token >= 0:
        path.append(token)
        token = parents[token]
    return path[::-1]


@given(ACTIONS)
def test_depth_and_paths_are_those_of_the_parents(actions: list[tuple[str, int]]) -> None:
    tree, parents = build(actions)
    assert len(tree) == len(parents)
    for token in range(len(tree)):
        path = ancestors(parents, token)
        assert tree.path_to(token).tolist() == path
        assert tree.depth[token] == len(path) - 1


@given(ACTIONS)
def test_plain_sequences_hold_every_read_out_once_at_its_depth(actions: list[tuple[str, int]]) -> None:
    tree, parents = build(actions)
    seen: list[int] = []
    for token_ids, read_outs in plain_sequences(tree):
        seen += read_outs.tolist()
        for read_out in read_outs:
            path = ancestors(parents, int(tree.source[read_out]))
            assert token_ids[: len(path)].tolist() == tree.token_ids[path].tolist()
    assert sorted(seen) == list(range(len(tree.source)))


def test_the_first_label_token_is_read_at_the_open_run_where_the_question_is_empty() -> None:
    writer = TreeWriter()
    writer.open(np.array([1, 2, 3], np.int32))
    label = np.array([7, 8], np.int32)
    writer.chain(label, weight=1.0, part=0, item=0)
    tree = writer.finish()
    assert tree.token_ids.tolist() == [1, 2, 3, 7]
    assert tree.source.tolist() == [2, 3]
    assert tree.target.tolist() == [7, 8]


def test_a_chain_reads_marked_tokens_at_the_token_before_and_drops_what_nothing_reads() -> None:
    writer = TreeWriter()
    writer.chain(np.arange(6, dtype=np.int32), np.array([0, 0, 1, 0, 1, 0], bool), weight=0.5, part=2, item=0)
    tree = writer.finish()
    assert tree.token_ids.tolist() == [0, 1, 2, 3]
    assert tree.source.tolist() == [1, 3]
    assert tree.target.tolist() == [2, 4]
    assert tree.part.tolist() == [2, 2]


def test_the_first_token_of_a_root_cannot_be_predicted() -> None:
    with pytest.raises(ValueError, match="nothing that predicts"):
        TreeWriter().chain(
            np.arange(3, dtype=np.int32), np.array([1, 0, 1], bool), weight=1.0, part=0, item=0
        )
    with pytest.raises(ValueError, match="nothing that predicts"):
        TreeWriter().chain(np.ones(2, np.int32), weight=1.0, part=0, item=0)
