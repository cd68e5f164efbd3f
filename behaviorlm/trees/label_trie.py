"""The trie of a closed vocabulary's labels: every label's tokens, each shared beginning stored once."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from behaviorlm.trees.token_tree import Int32, TokenTree, TreeWriter

Int64 = NDArray[np.int64]

UNCUT = 1 << 40
"""Nodes of a trie in one piece, whatever its size."""


@dataclass(frozen=True)
class LabelTrie:
    """A trie over K labels with M inner nodes (preorder) and E edges.

    An inner node is a proper beginning of a label; the empty one is the prompt itself and is not stored. An edge is a
    token predicted at a node: its log-probability is read at `edge_source` (-1: the prompt's last token, else a node).
    labels: int64 [K], which labels of the vocabulary these are. tree: the inner nodes.
    edge_source: int64 [E]; edge_target: int64 [E], token ids; edge_parent: int64 [E], the edge above, -1 at the top.
    label_edge: int64 [K], the edge on which each label ends.
    """

    labels: Int64
    tree: TokenTree
    edge_source: Int64
    edge_target: Int64
    edge_parent: Int64
    label_edge: Int64

    def label_scores(self, edge_log_probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
        """Sum the edges of each label; float [B, E] to float64 [B, K]."""
        total = edge_log_probabilities.astype(np.float64)
        level = np.where(self.edge_source < 0, 0, 1 + self.tree.depth[np.maximum(self.edge_source, 0)])
        for depth in range(1, int(level.max(initial=0)) + 1):
            edges = np.flatnonzero(level == depth)
            total[:, edges] += total[:, self.edge_parent[edges]]
        return total[:, self.label_edge]


def build_tries(label_ids: Sequence[Int32], max_nodes: int) -> list[LabelTrie]:
    """Tries that together hold every label once, of at most `max_nodes` inner nodes where a label alone allows it.

    label_ids: the tokens of each label with its terminator (all distinct and none a beginning of another, or
    ValueError). Labels are taken in lexical order, so neighbors share their beginnings.
    """
    order = in_lexical_order(label_ids)
    groups = even_groups([label_ids[label] for label in order], 1, max_nodes)
    return [_build(order[first:stop], label_ids) for first, stop in groups]


def even_groups(beginnings: Sequence[Int32], uncounted: int, most: int) -> list[tuple[int, int]]:
    """Groups (first, stop) of neighbors, as few as have at most so many tokens each, shared ones counted once, and of
    those the most even ones: what runs together is padded to the longest.

    uncounted: tokens at the end of each that are none of its own. One alone may have more than `most`.
    """
    lengths = [len(ids) - uncounted for ids in beginnings]
    shared = [0, *(shared_beginning(first, second) for first, second in pairwise(beginnings))]

    def starts(bound: int) -> list[int]:
        found, tokens = [0], 0
        for place, (length, common) in enumerate(zip(lengths, shared, strict=True)):
            added = max(0, length - common) if place > found[-1] else length
            if place > found[-1] and tokens + added > bound:
                found.append(place)
                tokens, added = 0, length
            tokens += added
        return found

    if not lengths:
        return []
    begins = starts(most)
    if len(begins) > 1:
        enough = bisect_left(range(most), True, key=lambda bound: len(starts(bound)) <= len(begins))
        begins = starts(enough)
    return list(pairwise([*begins, len(lengths)]))


def in_lexical_order(label_ids: Sequence[Int32]) -> list[int]:
    """Which label comes first, second, … by its tokens; ValueError where one is a beginning of another."""
    order = sorted(range(len(label_ids)), key=lambda label: label_ids[label].tolist())
    for first, second in pairwise(order):
        a, b = label_ids[first].tolist(), label_ids[second].tolist()
        if a == b[: len(a)]:
            raise ValueError(f"label {first} is a beginning of label {second}: labels need a terminator")
    return order


def shared_beginning(first: Int32, second: Int32) -> int:
    """Length of the common beginning."""
    length = min(len(first), len(second))
    differs = np.flatnonzero(first[:length] != second[:length])
    return int(differs[0]) if len(differs) else length


def _build(labels: list[int], label_ids: Sequence[Int32]) -> LabelTrie:
    writer = TreeWriter()
    path: list[tuple[int, int]] = []  # (its node or -1, its edge) of each token of the label written last
    source: list[int] = []
    target: list[int] = []
    parent: list[int] = []
    label_edge = []
    before = np.zeros(0, np.int32)
    for label in labels:
        ids = label_ids[label]
        shared = shared_beginning(before, ids)
        for node, _ in path[shared:]:
            if node >= 0:
                writer.close()
        del path[shared:]
        for position in range(shared, len(ids)):
            above_node, above_edge = path[-1] if path else (-1, -1)
            source.append(above_node)
            target.append(int(ids[position]))
            parent.append(above_edge)
            is_inner = position < len(ids) - 1
            path.append((writer.open(ids[position : position + 1]) if is_inner else -1, len(source) - 1))
        label_edge.append(path[-1][1])
        before = ids
    return LabelTrie(
        np.array(labels, dtype=np.int64),
        writer.finish(),
        np.array(source, dtype=np.int64),
        np.array(target, dtype=np.int64),
        np.array(parent, dtype=np.int64),
        np.array(label_edge, dtype=np.int64),
    )
