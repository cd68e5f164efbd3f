"""How far a model has moved from a reference in what it thinks of the tail behaviors: a term of the loss.

For a prompt, q and p are the probabilities of the tail behaviors under the reference and the model, as normalized over
the trie of names (`scoring.normalization: trie`), to the power 1/T and renormalized over the tail; the divergence is
T^2 KL(q || p). That is distillation (Hinton, Vinyals and Dean, arXiv 1503.02531, for T^2) among the tail alone, our
choice. Unlike a likelihood it is not linear in what is read out, so it has a forward of its own.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from behaviorlm.model import lm_head
from behaviorlm.model.lm_head import HeadRows, head_rows, logits_among
from behaviorlm.trees.closed_trie import ClosedTrie


@dataclass(frozen=True)
class KeptTail:
    """The choices on the paths of T tail behaviors, B branching nodes with E children; see `ClosedTrie.among`.

    It has no parameter and is no module: ZeRO-3 counts the runs of modules, and not every pack has kept samples.
    among: int64 [n], ascending, the tokens of the children. token: int64 [E], which of them each child is. branch:
    int64 [E], its node. levels: (children, the choice above each), from the top. label_child: int64 [T], the last
    choice on each path. temperature: T above.
    """

    among: Tensor
    token: Tensor
    branch: Tensor
    levels: tuple[tuple[Tensor, Tensor], ...]
    label_child: Tensor
    temperature: float

    def divergence(self, model: nn.Module, states: Tensor, reference: Tensor) -> Tensor:
        """The divergence of each of S samples; [S], float32 at least.

        states: [S, B, width], at the branching nodes after each sample's prompt. reference: [S, T], log q.
        """
        p = self.log_probabilities(model, states)
        q = reference.to(p.dtype)
        return self.temperature**2 * (q.exp() * (q - p)).sum(dim=-1)

    def log_probabilities(self, model: nn.Module, states: Tensor) -> Tensor:
        """log p of the tail behaviors; [S, T]. Some samples go through the head at a time, their logits not kept."""
        here = self._on(states.device)
        rows = head_rows(model, here.among)
        pieces = []
        for part in states.split(max(1, lm_head.HEAD_ROWS // states.shape[1])):
            if torch.is_grad_enabled():
                pieces.append(checkpoint(here._scores, model, part, rows, use_reentrant=False))
            else:
                pieces.append(here._scores(model, part, rows))
        return torch.log_softmax(torch.cat(pieces) / self.temperature, dim=-1)

    def _scores(self, model: nn.Module, states: Tensor, rows: HeadRows | None) -> Tensor:
        """Log-probabilities of the tail behaviors, not renormalized; [S, T]."""
        logits = logits_among(model, states, self.among, rows)[:, self.branch, self.token]
        found = logits - _normalizers(logits, self.branch, states.shape[1])[:, self.branch]
        for children, parents in self.levels:
            found = found.index_add(1, children, found[:, parents])
        return found[:, self.label_child]

    def _on(self, device: torch.device) -> "KeptTail":
        """The same numbers on a device."""
        return KeptTail(
            self.among.to(device),
            self.token.to(device),
            self.branch.to(device),
            tuple((children.to(device), parents.to(device)) for children, parents in self.levels),
            self.label_child.to(device),
            self.temperature,
        )


def kept_tail(trie: ClosedTrie, temperature: float) -> KeptTail:
    """Of the trie of a tail, in one piece, with a branching node."""

    def tensor(values: NDArray[np.integer]) -> Tensor:
        return torch.from_numpy(values.astype(np.int64))

    among, token = np.unique(trie.child_token, return_inverse=True)
    return KeptTail(
        tensor(among),
        tensor(token),
        tensor(np.repeat(np.arange(len(trie.child_start) - 1), np.diff(trie.child_start))),
        tuple((tensor(children), tensor(trie.parent[children])) for children in trie.levels[1:]),
        tensor(trie.label_child),
        temperature,
    )


def _normalizers(logits: Tensor, branch: Tensor, branches: int) -> Tensor:
    """The logarithm of the summed exponentials of each branch's children; [S, E] to [S, B]."""
    peak = logits.new_full((len(logits), branches), -torch.inf)
    peak = peak.scatter_reduce(1, branch.expand_as(logits), logits.detach(), "amax")
    summed = torch.zeros_like(peak).index_add(1, branch, (logits - peak[:, branch]).exp())
    return peak + summed.log()
