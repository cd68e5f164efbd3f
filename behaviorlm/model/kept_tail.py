"""How far a model has moved from a reference in what it thinks of the tail behaviors: a term of the loss.

For a prompt, q and p are the probabilities of the tail behaviors under the reference and the model, as normalized over
the trie of names (`scoring.normalization: trie`), to the power 1/T and renormalized over the tail; the divergence is
T^2 KL(q || p). That is distillation (Hinton, Vinyals and Dean, arXiv 1503.02531, for T^2) among the tail alone, our
choice. Unlike a likelihood it is not linear in what is read out, so it has a forward of its own.
"""

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from behaviorlm.model import lm_head
from behaviorlm.model.lm_head import HeadRows, head_rows, logits_among
from behaviorlm.trees.closed_trie import ClosedTrie


class KeptTail(nn.Module):
    """The choices on the paths of T tail behaviors, B branching nodes with E children; see `ClosedTrie.among`.

    State: none but these numbers, which move to the model's device with it.
    """

    def __init__(self, trie: ClosedTrie, temperature: float) -> None:
        """trie: of the tail, in one piece. temperature: T above."""
        super().__init__()
        self.temperature = temperature
        among, token = np.unique(trie.child_token, return_inverse=True)
        branch = np.repeat(np.arange(len(trie.child_start) - 1), np.diff(trie.child_start))
        numbers = {"among": among, "token": token, "branch": branch, "label_child": trie.label_child}
        for name, values in numbers.items():
            self.register_buffer(name, torch.from_numpy(values.astype(np.int64)), persistent=False)
        self._levels = [(torch.from_numpy(c), torch.from_numpy(trie.parent[c])) for c in trie.levels[1:]]

    def forward(self, model: nn.Module, states: Tensor, reference: Tensor) -> Tensor:
        """The divergence of each of S samples; [S], float32 at least.

        states: [S, B, width], at the branching nodes after each sample's prompt. reference: [S, T], log q.
        """
        p = self.log_probabilities(model, states)
        q = reference.to(p.dtype)
        return self.temperature**2 * (q.exp() * (q - p)).sum(dim=-1)

    def log_probabilities(self, model: nn.Module, states: Tensor) -> Tensor:
        """log p of the tail behaviors; [S, T]. Some samples go through the head at a time, their logits not kept."""
        rows = head_rows(model, cast(Tensor, self.among))
        pieces = []
        for part in states.split(max(1, lm_head.HEAD_ROWS // max(1, states.shape[1]))):
            if torch.is_grad_enabled():
                pieces.append(checkpoint(self._scores, model, part, rows, use_reentrant=False))
            else:
                pieces.append(self._scores(model, part, rows))
        return torch.log_softmax(torch.cat(pieces) / self.temperature, dim=-1)

    def _scores(self, model: nn.Module, states: Tensor, rows: HeadRows | None) -> Tensor:
        """Log-probabilities of the tail behaviors, not renormalized; [S, T]."""
        branch, token, label_child = (cast(Tensor, b) for b in (self.branch, self.token, self.label_child))
        logits = logits_among(model, states, cast(Tensor, self.among), rows)[:, branch, token]
        found = logits - _normalizers(logits, branch, states.shape[1])[:, branch]
        for children, parents in self._levels:
            children, parents = children.to(found.device), parents.to(found.device)
            found = found.index_add(1, children, found[:, parents])
        return found[:, label_child]


def _normalizers(logits: Tensor, branch: Tensor, branches: int) -> Tensor:
    """The logarithm of the summed exponentials of each branch's children; [S, E] to [S, B]."""
    peak = logits.new_full((len(logits), branches), -torch.inf)
    peak = peak.scatter_reduce(1, branch.expand_as(logits), logits.detach(), "amax")
    summed = torch.zeros_like(peak).index_add(1, branch, (logits - peak[:, branch]).exp())
    return peak + summed.log()
