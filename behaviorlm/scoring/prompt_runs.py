"""Prompts after they went through a model: their keys and values, each prompt's own out of the tree that holds all."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from behaviorlm.scoring.kept_prefixes import KeptPrefix, KeysValues
from behaviorlm.trees.token_tree import TokenTree


@dataclass(frozen=True)
class Prompts:
    """A batch of B prompts: lengths [B], last hidden states [B, width], keys and values [B, heads, longest, width]."""

    lengths: Tensor
    ends: Tensor
    keys_values: KeysValues


@dataclass(frozen=True)
class PromptRun:
    """Prompts in one tree, each a path of it, after they went through the model; bare where it takes no trees.

    computed: tokens that did, and did not come from a kept prefix. place: int64 [L], where a token stands in
    `keys_values`. hidden: last hidden states of those computed, which stand last.
    """

    tree: TokenTree
    paths: Sequence[NDArray[np.int64]]
    computed: int = 0
    place: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    hidden: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    keys_values: KeysValues = field(default_factory=list)

    @torch.inference_mode()
    def prefix(self, number: int, length: int) -> KeptPrefix:
        """The first tokens of a prompt, to be kept: copied, so that the rest of the tree is not held by it."""
        path = self.paths[number][:length]
        index = torch.from_numpy(self.place[path]).to(self.hidden.device)
        pairs = [(keys[:, :, index], values[:, :, index]) for keys, values in self.keys_values]
        return KeptPrefix(self.tree.token_ids[path], pairs)

    def gathered(self, which: slice) -> Prompts:
        """Some prompts' own paths out of the tree, padded on the right."""
        paths, device = self.paths[which], self.hidden.device
        lengths = torch.tensor([len(path) for path in paths], device=device)
        padded = np.zeros((len(paths), int(lengths.max())), dtype=np.int64)
        for row, path in enumerate(paths):
            padded[row, : len(path)] = self.place[path]
        index = torch.from_numpy(padded).to(device)
        ends = index[torch.arange(len(paths), device=device), lengths - 1]
        return Prompts(
            lengths,
            self.hidden[ends - (len(self.tree) - self.computed)],
            [
                (keys[0][:, index].transpose(0, 1), values[0][:, index].transpose(0, 1))
                for keys, values in self.keys_values
            ],
        )
