"""Keys and values of the beginning of a prompt, kept so that a later prompt that begins alike need not compute them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from behaviorlm.trees.label_trie import shared_beginning
from behaviorlm.trees.token_tree import Int32, TokenTree

KeysValues = list[tuple[Tensor, Tensor]]
"""For each layer keys and values [1, heads, tokens, width of a head]."""


@dataclass(frozen=True)
class KeptPrefix:
    """The first L tokens of a prompt and what a model made of them."""

    token_ids: Int32
    keys_values: KeysValues

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        tensors = [tensor for layer in self.keys_values for tensor in layer]
        return self.token_ids.nbytes + sum(tensor.nbytes for tensor in tensors)

    def shared_with(self, token_ids: Int32) -> int:
        """How many tokens both begin with: beyond them nothing of it holds."""
        return shared_beginning(self.token_ids, token_ids)


@dataclass(frozen=True)
class Known:
    """The tokens of a tree whose keys and values are there. nodes: int64 [known], each once."""

    nodes: NDArray[np.int64]
    keys_values: KeysValues


def known_of(
    tree: TokenTree, paths: Sequence[NDArray[np.int64]], kept: Sequence[KeptPrefix | None]
) -> Known | None:
    """What kept prefixes give of a tree, one or None for each path; None where that is nothing.

    A path's last token is never known: what comes after it is read from its output, and outputs are not kept.
    """
    is_known = np.zeros(len(tree), bool)
    is_known[[path[-1] for path in paths]] = True  # so that none is taken, where another path goes on from it
    nodes, pieces = [], []
    for path, prefix in zip(paths, kept, strict=True):
        if prefix is None:
            continue
        shared = prefix.shared_with(tree.token_ids[path[:-1]])
        taken = np.flatnonzero(~is_known[path[:shared]])  # what paths share is known once
        if not len(taken):
            continue
        is_known[path[taken]] = True
        nodes.append(path[taken])
        index = torch.from_numpy(taken).to(prefix.keys_values[0][0].device)
        pieces.append([(keys[:, :, index], values[:, :, index]) for keys, values in prefix.keys_values])
    if not nodes:
        return None
    joined = [
        (torch.cat([keys for keys, _ in layer], dim=2), torch.cat([values for _, values in layer], dim=2))
        for layer in zip(*pieces, strict=True)
    ]
    return Known(np.concatenate(nodes), joined)
