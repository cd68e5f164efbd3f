"""The trie of a closed vocabulary's labels: every label's tokens, each shared beginning stored once."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

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
    groups: list[list[int]] = [[]]
    nodes = 0
    for label in order:
        previous = label_ids[groups[-1][-1]] if groups[-1] else np.zeros(0, dtype=np.int32)
        added = len(label_ids[label]) - 1 - shared_beginning(previous, label_ids[label])
        if groups[-1] and nodes + added > max_nodes:
            groups.append([])
            nodes, added = 0, len(label_ids[label]) - 1
        groups[-1].append(label)
        nodes += max(0, added)
    return [_build(group, label_ids) for group in groups if group]


def in_lexical_order(label_ids: Sequence[Int32]) -> list[int]:
    """Which label comes first, second, … by its tokens; ValueError where one is a beginning of another."""
    order = sorted(range(len(label_ids)), key=lambda label: label_ids[label].tolist())
    for first, second in itertools.pairwise(order):
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
