"""Cutting a flattened tree into short rows of a batch: dense attention costs the square of a row's length.

A pack hangs many windows below one instruction, and no window attends to another. Laid out as one row, almost all of
its attention is masked. Here each row holds some windows with a copy of the instruction above them, so that the same
numbers cost less.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behaviorlm.trees.token_tree import TokenTree

Int64 = NDArray[np.int64]

ROW_TOKENS = 160
"""Rows are filled up to this length, or to that of the longest window with its instruction."""

WORTHWHILE = 0.7
"""Rows are used if their attention is at most this share of the single row's: they copy and pad."""


CUDA_MULTIPLE = 64
"""Widths on CUDA are multiples of this: kernels want masks aligned, and copy them in every layer where they are not;
and there are few shapes, for what plans or compiles for each."""


@dataclass(frozen=True)
class TreeRows:
    """B rows of width W over a tree of L tokens.

    take: int64 [B, W], the token of the tree that stands there; padding repeats token 0.
    depth, end: int64 [B, W], as in TokenTree, `end` counted within the row; padding attends to itself alone.
    place: int64 [L], where in the flattened rows each token (of copies, the first) stands.
    copies, originals: int64 [C], where its further copies stand there, and the tokens that they are of.
    """

    take: Int64
    depth: Int64
    end: Int64
    place: Int64
    copies: Int64
    originals: Int64


def tree_rows(tree: TokenTree, row_tokens: int = ROW_TOKENS, multiple: int = 1) -> TreeRows | None:
    """Rows for a tree, or None where it can as well go as one row.

    multiple: widths are rounded up to a multiple of it, one row's too, which is then padded; filled before, rows do not
    grow in number by it.
    """
    units = _units(tree.end.astype(np.int64))
    sizes = [len(trunk) + stop - start for trunk, start, stop in units]
    width = _rounded(max([row_tokens, *sizes]), multiple)
    rows = [np.concatenate(pieces) for pieces in _filled(units, width)]
    width = _rounded(max([0, *map(len, rows)]), multiple)
    if len(units) < 2 or len(rows) * width**2 > WORTHWHILE * len(tree) ** 2:
        width = _rounded(len(tree), multiple)
        if width == len(tree):
            return None
        rows = [np.arange(len(tree))]
    take = np.zeros((len(rows), width), dtype=np.int64)
    end = np.tile(np.arange(1, width + 1), (len(rows), 1))
    depth = np.zeros((len(rows), width), dtype=np.int64)
    place = np.full(len(tree), -1, dtype=np.int64)
    copies = []
    for index, row in enumerate(rows):
        stands = index * width + np.arange(len(row))
        take[index, : len(row)] = row
        depth[index, : len(row)] = tree.depth[row]
        end[index, : len(row)] = np.searchsorted(row, tree.end[row])
        is_first = place[row] < 0
        place[row[is_first]] = stands[is_first]
        copies.append(stands[~is_first])
    further = np.concatenate(copies)
    return TreeRows(take, depth, end, place, further, take.ravel()[further])


def _rounded(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def _units(end: Int64) -> list[tuple[Int64, int, int]]:
    """(trunk, start, stop) of the subtrees that go into a row whole: those below the first branching of each root."""
    units = []
    start = 0
    while start < len(end):
        stop = int(end[start])
        last = start
        while last + 1 < stop and end[last + 1] == stop:
            last += 1
        trunk = np.arange(start, last + 1)
        if last + 1 == stop:  # a plain sequence
            units.append((trunk[:0], start, stop))
        child = last + 1
        while child < stop:
            units.append((trunk, child, int(end[child])))
            child = int(end[child])
        start = stop
    return units


def _filled(units: list[tuple[Int64, int, int]], width: int) -> list[list[Int64]]:
    """Next-fit in preorder: a row is closed when the next unit does not fit. A trunk stands once in a row."""
    rows: list[list[Int64]] = []
    used, last_trunk = width + 1, -1
    for trunk, start, stop in units:
        identity = int(trunk[0]) if len(trunk) else -1
        shares = identity >= 0 and identity == last_trunk
        if used + stop - start + (0 if shares else len(trunk)) > width:
            rows.append([])
            used, shares = 0, False
        if not shares:
            rows[-1].append(trunk)
            used += len(trunk)
        rows[-1].append(np.arange(start, stop))
        used += stop - start
        last_trunk = identity
    return rows
