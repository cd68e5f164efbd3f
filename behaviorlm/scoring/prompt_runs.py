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
    """A batch of B prompts: lengths [B], last hidden states [B, width], places int64 [B, longest], 0 beyond its end.

    keys_values: of the run, in which the places are.
    """

    lengths: Tensor
    ends: Tensor
    places: Tensor
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

    def chosen(self, which: slice) -> Prompts:
        """Some of the prompts. Nothing waits for the device."""
        paths, device = self.paths[which], self.hidden.device
        lengths = np.array([len(path) for path in paths])
        padded = np.zeros((len(paths), int(lengths.max())), dtype=np.int64)
        for row, path in enumerate(paths):
            padded[row, : len(path)] = self.place[path]
        ends = padded[np.arange(len(paths)), lengths - 1] - (len(self.tree) - self.computed)
        lengths_there, ends_there, places = (
            torch.from_numpy(array).to(device, non_blocking=True) for array in (lengths, ends, padded)
        )
        return Prompts(lengths_there, self.hidden[ends_there], places, self.keys_values)
