"""The LM head where only some tokens may follow: rows of its matrix for the children of a trie's branching nodes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from behaviorlm.model.lm_head import adjusted_logits, head_logits, head_rows, precise
from behaviorlm.scoring.whole_head import whole_rows
from behaviorlm.trees.closed_trie import ClosedPiece, ClosedTrie


@dataclass(frozen=True)
class _Nodes:
    """Branching nodes of one piece with about as many children each, n of at most c.

    states: int64 [n], where in the piece's states each is read, 0 for the prompt's end. children: int64 [n, c], which
    of the trie's; -1 where a node has fewer. slots: int64, where among n * c a child is. tokens: their ids, 0 beyond
    them. rows: [n, width, c] and bias [n, 1, c], those of the head, in float32 or more; None where the head is no plain
    matrix and runs whole.
    """

    states: Tensor
    children: Tensor
    slots: Tensor
    tokens: Tensor
    rows: Tensor | None
    bias: Tensor | None


@dataclass(frozen=True)
class ClosedHead:
    """What the head is asked in each piece of a trie, gathered once: memory for E rows of it, or twice as many."""

    trie: ClosedTrie
    pieces: tuple[tuple[_Nodes, ...], ...]
    temperature: float = 1.0

    def rows(self, vocabulary: int) -> int:
        """Rows of the head's matrix that each prompt multiplies."""
        is_whole = any(nodes.rows is None for of_piece in self.pieces for nodes in of_piece)
        return vocabulary * (len(self.trie.child_start) - 1) if is_whole else len(self.trie.child_token)

    def add_log_probabilities(self, model: nn.Module, piece: int, states: Tensor, found: Tensor) -> None:
        """Write into `found` [prompts, E] what the choices of a piece have after each prompt.

        states: [prompts, 1 + M, width], the prompt's end first. Log-probabilities over the children of each node.
        """
        for nodes in self.pieces[piece]:
            logits = (_logits(model, nodes, states) / self.temperature).masked_fill(
                nodes.children[:, None] < 0, -torch.inf
            )
            choices = torch.log_softmax(logits, dim=-1).transpose(0, 1).flatten(1)  # [prompts, n * c]
            # by places: a choice by booleans waits for the device to count them
            found[:, nodes.children.flatten()[nodes.slots]] = choices[:, nodes.slots].to(found.dtype)


@torch.no_grad()
def closed_head(model: nn.Module, trie: ClosedTrie, temperature: float = 1.0) -> ClosedHead:
    """Gather the rows of a model's head for the choices of a trie, on the model's device. Logits are divided by the
    temperature.
    """
    return ClosedHead(trie, tuple(tuple(_nodes(model, trie, piece)) for piece in trie.pieces), temperature)


def _nodes(model: nn.Module, trie: ClosedTrie, piece: ClosedPiece) -> Iterator[_Nodes]:
    device = next(model.parameters()).device
    numbers = np.diff(trie.child_start)[piece.branches]
    # Padded to the next power of 2, so that there are few groups, and twice the rows at most.
    widths = 2 ** np.ceil(np.log2(numbers)).astype(np.int64)
    for width in np.unique(widths):
        chosen = np.flatnonzero(widths == width)
        slots = np.arange(numbers[chosen].max())
        children = np.where(
            slots < numbers[chosen, None], trie.child_start[piece.branches[chosen], None] + slots, -1
        )
        tokens = torch.from_numpy(np.where(children < 0, 0, trie.child_token[children])).to(device)
        rows, bias = head_rows(model, tokens) or (None, None)
        yield _Nodes(
            torch.from_numpy(piece.places[chosen] + 1).to(device),
            torch.from_numpy(children).to(device),
            torch.from_numpy(np.flatnonzero(children >= 0)).to(device),
            tokens,
            None if rows is None else rows.transpose(1, 2).contiguous(),
            None if bias is None else bias[:, None],
        )


def _logits(model: nn.Module, nodes: _Nodes, states: Tensor) -> Tensor:
    """Of the children of each node after each prompt; [n, prompts, c]."""
    read = states[:, nodes.states].transpose(0, 1)
    if nodes.rows is None:
        return _logits_of_whole_head(model, nodes, read)
    logits = torch.bmm(precise(read), nodes.rows)
    return adjusted_logits(model, logits if nodes.bias is None else logits + nodes.bias)


def _logits_of_whole_head(model: nn.Module, nodes: _Nodes, read: Tensor) -> Tensor:
    found = []
    for of_node, tokens in zip(read, nodes.tokens, strict=True):
        pieces = [head_logits(model, prompts)[:, tokens] for prompts in of_node.split(whole_rows(model))]
        found.append(torch.cat(pieces))
    return torch.stack(found)
