"""The trie of a closed vocabulary as choices: where names part, what may follow there, and nothing else.

If a name must be one of the vocabulary, a token that has no alternative is certain. So only the nodes at which names
part say anything, and the probabilities there are over the node's children alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from behaviorlm.trees.label_trie import even_groups, in_lexical_order, shared_beginning
from behaviorlm.trees.token_tree import Int32, TokenTree, TreeWriter

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class ClosedPiece:
    """Branching nodes with all tokens above them, small enough to go through a model together.

    tree: the tokens, none where the only branching node is the prompt's end. branches: int64 [n], which branching nodes
    are read here. places: int64 [n], the token of the tree at which each is read, -1 for the prompt's end.
    """

    tree: TokenTree
    branches: Int64
    places: Int64


@dataclass(frozen=True)
class ClosedTrie:
    """A trie over K labels with B branching nodes in preorder, those with two children or more, and E children of them.

    Each branching node is in exactly one of the pieces, with all of its children, so that its probabilities sum to 1
    however the trie is cut. child_start: int64 [B + 1], where each one's children begin. child_token: int64 [E], token
    ids. parent: int64 [E], the child of a branching node above that leads here, -1 at the top. label_child: int64 [K],
    the last choice on each label's path, -1 for an only label.
    """

    pieces: tuple[ClosedPiece, ...]
    child_start: Int64
    child_token: Int64
    parent: Int64
    label_child: Int64

    @property
    def nodes(self) -> int:
        """Tokens that go through the model for one prompt; those above a cut are there in several pieces."""
        return sum(len(piece.tree) for piece in self.pieces)

    def depths(self) -> list[int]:
        """Of each branching node but the prompt's end, the number of its tokens."""
        return [
            int(depth) + 1
            for piece in self.pieces
            for depth in piece.tree.depth[piece.places[piece.places >= 0]]
        ]

    def label_scores(self, log_probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
        """Sum the choices on each label's path; float [n, E] to float64 [n, K], each row's probabilities sum to 1."""
        total = log_probabilities.astype(np.float64)
        for children in self.levels[1:]:
            total[:, children] += total[:, self.parent[children]]
        scores = np.zeros((len(total), len(self.label_child)))
        chosen = self.label_child >= 0
        scores[:, chosen] = total[:, self.label_child[chosen]]
        return scores

    def among(self, labels: Int64) -> "ClosedTrie":
        """The choices on the paths of T labels only, each with all that may follow there. labels: int64 [T].

        Of a trie in one piece, which stays one. `label_child` is then of these labels, int64 [T].
        """
        (piece,) = self.pieces
        on_path = np.zeros(len(self.child_token), bool)
        child = self.label_child[labels]
        while (child >= 0).any():
            child = child[child >= 0]
            on_path[child] = True
            child = self.parent[child]
        branch = np.repeat(np.arange(len(self.child_start) - 1), np.diff(self.child_start))
        branches = np.unique(branch[on_path])
        kept = np.isin(branch, branches)
        place = np.r_[np.cumsum(kept) - 1, -1]  # of each child among those kept; -1 stays
        return ClosedTrie(
            (_without_others(piece, branches),),
            np.r_[0, np.cumsum(np.diff(self.child_start)[branches])].astype(np.int64),
            self.child_token[kept],
            place[self.parent[kept]],
            place[self.label_child[labels]],
        )

    @cached_property
    def levels(self) -> list[Int64]:
        """The children without a choice above them, with one, and so on."""
        level = np.zeros(len(self.parent), np.int64)
        for child, parent in enumerate(self.parent.tolist()):  # a parent comes before its children
            if parent >= 0:
                level[child] = level[parent] + 1
        return [np.flatnonzero(level == one) for one in range(int(level.max(initial=0)) + 1)]


def build_closed_trie(label_ids: Sequence[Int32], max_nodes: int) -> ClosedTrie:
    """The trie of labels, in pieces of at most `max_nodes` tokens where one branching node alone allows it.

    label_ids: the tokens of each label with its terminator (all distinct and none a beginning of another, or
    ValueError).
    """
    order = in_lexical_order(label_ids)
    ids = [label_ids[label] for label in order]
    shared = np.array([shared_beginning(first, second) for first, second in pairwise(ids)], np.int64)
    beginnings: list[Int32] = []
    starts, tokens, parents = [0], list[int](), list[int]()
    label_child = np.full(len(order), -1, np.int64)
    waiting = [(0, len(ids), -1)]  # labels from, to, and the choice that led to them
    while waiting:
        first, stop, parent = waiting.pop()
        if stop - first < 2:
            label_child[order[first:stop]] = parent
            continue
        depth = int(shared[first : stop - 1].min())
        beginnings.append(ids[first][:depth])
        cuts = [first, *(first + 1 + np.flatnonzero(shared[first : stop - 1] == depth)).tolist(), stop]
        children = [(low, high, len(tokens) + child) for child, (low, high) in enumerate(pairwise(cuts))]
        tokens += [int(ids[low][depth]) for low, _, _ in children]
        parents += [parent] * len(children)
        starts.append(len(tokens))
        waiting += reversed(children)  # in preorder
    return ClosedTrie(
        tuple(_pieces(beginnings, max_nodes)),
        np.array(starts, np.int64),
        np.array(tokens, np.int64),
        np.array(parents, np.int64),
        label_child,
    )


def _pieces(beginnings: Sequence[Int32], max_nodes: int) -> Iterator[ClosedPiece]:
    """Branching nodes, given by the tokens down to them, in preorder, so neighbors share theirs."""
    for first, stop in even_groups(beginnings, 0, max_nodes):
        yield _piece(first, beginnings[first:stop])


def _piece(first: int, beginnings: Sequence[Int32]) -> ClosedPiece:
    writer = TreeWriter()
    places: list[int] = []
    path: list[int] = []  # places of the tokens down to the branching node written last
    before = beginnings[0][:0]
    for ids in beginnings:
        shared = shared_beginning(before, ids)
        for _ in path[shared:]:
            writer.close()
        path = path[:shared] + [writer.open(ids[at : at + 1]) for at in range(shared, len(ids))]
        places.append(path[-1] if path else -1)
        before = ids
    return ClosedPiece(
        writer.finish(), first + np.arange(len(beginnings), dtype=np.int64), np.array(places, np.int64)
    )


def _without_others(piece: ClosedPiece, branches: Int64) -> ClosedPiece:
    """A piece with some of its branching nodes, and with the tokens above them only."""
    tree, places = piece.tree, piece.places[np.searchsorted(piece.branches, branches)]
    keep = np.zeros(len(tree), bool)
    for place in places[places >= 0].tolist():
        keep[tree.path_to(place)] = True
    before = np.r_[0, np.cumsum(keep)]
    left = replace(
        tree,
        token_ids=tree.token_ids[keep],
        depth=tree.depth[keep],
        end=before[tree.end[keep]].astype(np.int32),
    )
    return ClosedPiece(
        left, np.arange(len(branches), dtype=np.int64), np.where(places < 0, -1, before[places])
    )
