"""Token trees: sequences that share their beginnings, laid out so that each shared run is stored once.

A tree is flattened in preorder, so the tokens below a token follow it without a gap and one number per token
(`end`, where its subtree stops) says everything about the structure: token j is an ancestor of token i, or i itself,
exactly if `j <= i < end[j]`. A forest (several roots) is the same thing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int32 = NDArray[np.int32]
Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class KeptSamples:
    """S samples of a tree of which more is asked than their label: how likely each of T tail behaviors is.

    read_outs: int32 [S, B], those at the B branching nodes of a trie below each sample's prompt; they have no target,
    and weight 0. weight: float32 [S], the factor of the sample's divergence in the loss. reference: float32 [S, T],
    log-probabilities; their exponentials sum to 1 over the tail.
    """

    read_outs: Int32
    weight: Float32
    reference: Float32


@dataclass(frozen=True)
class TokenTree:
    """A forest of L tokens in preorder with R read-outs.

    token_ids: int32 [L].
    depth: int32 [L], the number of ancestors; it is the token's position.
    end: int32 [L], exclusive index at which the token's subtree stops.
    source: int32 [R], index of the token whose output predicts `target`.
    target: int32 [R], the token id to be predicted.
    weight: float32 [R], the factor of the negative log-likelihood in the loss.
    part: int32 [R], 0 for samples, k >= 1 for auxiliary source k.
    item: int32 [R], which sample or conversation of the tree the read-out belongs to; below 0, and each of its own, for
    those of kept samples.
    kept: samples that are held to a reference; None: none.
    """

    token_ids: Int32
    depth: Int32
    end: Int32
    source: Int32
    target: Int32
    weight: Float32
    part: Int32
    item: Int32
    kept: KeptSamples | None = None

    def __len__(self) -> int:
        return len(self.token_ids)

    def path_to(self, index: int) -> NDArray[np.int64]:
        """Indices of the ancestors of a token and the token itself, root first. int64 [depth + 1]."""
        return np.flatnonzero(self.end[: index + 1] > index)


class TreeWriter:
    """Writes a tree in preorder: `open` descends, `leaf` hangs a closed branch, `close` ascends."""

    def __init__(self) -> None:
        self._ids: list[Int32] = []
        self._depths: list[Int32] = []
        self._ends: list[Int32 | None] = []
        self._starts: list[int] = []
        self._open: list[tuple[int, int, int]] = []  # (segment, depth after it, index of its last token)
        self._length = 0
        self._source: list[Int32] = []
        self._target: list[Int32] = []
        self._weight: list[Float32] = []
        self._part: list[Int32] = []
        self._item: list[Int32] = []
        self._kept: list[tuple[Int32, float, Float32]] = []

    def __len__(self) -> int:
        return self._length

    def open(self, token_ids: Int32) -> int:
        """Append a run of tokens below the open one and descend into it. Returns the index of its last token."""
        depth, last = self._tip()
        if len(token_ids):
            last = self._length + len(token_ids) - 1
        self._append(token_ids, depth)
        self._open.append((len(self._ids) - 1, depth + len(token_ids), last))
        return last

    def close(self) -> None:
        """Ascend: the run opened last ends here."""
        segment, _, _ = self._open.pop()
        self._ends[segment] = np.full(len(self._ids[segment]), self._length, dtype=np.int32)

    def leaf(self, token_ids: Int32) -> int:
        """Append a run below the open one and close it at once. Returns the index of its last token."""
        last = self.open(token_ids)
        self.close()
        return last

    def chain(
        self,
        token_ids: Int32,
        is_predicted: NDArray[np.bool_] | None = None,
        *,
        weight: float,
        part: int,
        item: int,
    ) -> None:
        """Hang a plain sequence as a root-or-branch of its own and read out the marked tokens; None: all of them.

        A marked first token of a root cannot be predicted and raises ValueError. Trailing tokens after the last
        source are not laid out: the last one is a target only, and nothing attends to it.
        """
        predicted = np.arange(len(token_ids)) if is_predicted is None else np.flatnonzero(is_predicted)
        if len(predicted) == 0:
            raise ValueError("a chain without a predicted token adds nothing to the loss")
        base = self._length
        _, last = self._tip()
        sources = np.where(predicted > 0, base + predicted - 1, last)
        if (sources < 0).any():
            raise ValueError("the first token of a root has nothing that predicts it")
        self.leaf(token_ids[: predicted[-1]])
        self.read_out(sources, token_ids[predicted], np.full(len(predicted), weight), part, item)

    def read_out(
        self, source: NDArray[np.integer], target: Int32, weight: NDArray[np.floating], part: int, item: int
    ) -> None:
        """Add read-outs; all arrays have the same length."""
        self._source.append(source.astype(np.int32))
        self._target.append(target.astype(np.int32))
        self._weight.append(weight.astype(np.float32))
        self._part.append(np.full(len(source), part, dtype=np.int32))
        self._item.append(np.full(len(source), item, dtype=np.int32))

    def kept_sample(
        self, tree: TokenTree, places: NDArray[np.int64], *, weight: float, reference: Float32, part: int
    ) -> None:
        """Hang a tree below the open run and read it out at some places, -1: the last open token. See KeptSamples."""
        depth, last = self._tip()
        first, known = self._length, sum(map(len, self._source))
        self._ids.append(tree.token_ids)
        self._depths.append((tree.depth + depth).astype(np.int32))
        self._ends.append((tree.end + first).astype(np.int32))
        self._length += len(tree)
        count = len(places)
        self.read_out(
            np.where(places < 0, last, first + places), np.zeros(count, np.int32), np.zeros(count), part, 0
        )
        self._item[-1] = -1 - known - np.arange(count, dtype=np.int32)
        self._kept.append((known + np.arange(count, dtype=np.int32), weight, reference))

    def finish(self) -> TokenTree:
        """Close what is open and return the tree."""
        while self._open:
            self.close()
        ends = [end for end in self._ends if end is not None]
        return TokenTree(
            _joined(self._ids, np.int32),
            _joined(self._depths, np.int32),
            _joined(ends, np.int32),
            _joined(self._source, np.int32),
            _joined(self._target, np.int32),
            _joined(self._weight, np.float32),
            _joined(self._part, np.int32),
            _joined(self._item, np.int32),
            self._kept_samples(),
        )

    def _kept_samples(self) -> KeptSamples | None:
        if not self._kept:
            return None
        read_outs, weights, references = zip(*self._kept, strict=True)
        return KeptSamples(np.stack(read_outs), np.array(weights, np.float32), np.stack(references))

    def _tip(self) -> tuple[int, int]:
        if not self._open:
            return 0, -1
        _, depth, last = self._open[-1]
        return depth, last

    def _append(self, token_ids: Int32, depth: int) -> None:
        self._ids.append(token_ids.astype(np.int32, copy=False))
        self._depths.append(np.arange(depth, depth + len(token_ids), dtype=np.int32))
        self._ends.append(None)
        self._length += len(token_ids)


def _joined(arrays: Sequence[NDArray], dtype: type) -> NDArray:
    return np.concatenate(arrays).astype(dtype, copy=False) if arrays else np.zeros(0, dtype=dtype)


def plain_sequences(tree: TokenTree) -> list[tuple[Int32, NDArray[np.int64]]]:
    """Each item of the tree as a sequence of its own: (token ids from root to last source, its read-outs).

    The read-outs are indices into the tree's read-out arrays; a read-out's position in the sequence is the depth of
    its source. It is what tree batches must equal, and what models that cannot take trees are run on.
    """
    order = np.lexsort((tree.source, tree.item))
    items = tree.item[order]
    sequences = []
    for read_outs in np.split(order, np.flatnonzero(items[1:] != items[:-1]) + 1) if len(items) else []:
        path = tree.path_to(int(tree.source[read_outs].max()))
        sequences.append((tree.token_ids[path], read_outs))
    return sequences
