"""Running a causal language model over token trees: hidden states, those of read-outs, the weighted loss."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import Cache

from behaviorlm.model.allowed_tokens import AllowedTokens
from behaviorlm.model.attention import TreeAttention
from behaviorlm.model.kept_tail import KeptTail
from behaviorlm.model.lm_head import causal_lm, target_log_probabilities
from behaviorlm.model.row_attention import ARGUMENT, RowTensors
from behaviorlm.trees.token_tree import TokenTree, plain_sequences
from behaviorlm.trees.tree_rows import CUDA_MULTIPLE, ROW_TOKENS, tree_rows

PLAIN_TOKENS = 4096
"""Tokens of a batch where a tree is run as plain sequences."""


@dataclass(frozen=True)
class PackTensors:
    """A token tree as tensors: L tokens, R read-outs; see TokenTree. int64, `weight` float32.

    rows: where the tree is laid out as several. kept: (read_outs, weight, reference) of KeptSamples, where it has any.
    """

    tree: TokenTree
    token_ids: Tensor
    depth: Tensor
    end: Tensor
    source: Tensor
    target: Tensor
    weight: Tensor
    part: Tensor
    rows: RowTensors | None = None
    kept: tuple[Tensor, Tensor, Tensor] | None = None


def pack_tensors(
    tree: TokenTree, device: torch.device | str, row_tokens: int | None = ROW_TOKENS
) -> PackTensors:
    """Move a tree to a device, cut into rows of about `row_tokens` where that is less work; None: never cut."""

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array.astype(np.int64)).to(device, non_blocking=True)

    multiple = CUDA_MULTIPLE if torch.device(device).type == "cuda" else 1
    rows = None if row_tokens is None else tree_rows(tree, row_tokens, multiple)
    kept = tree.kept
    return PackTensors(
        tree,
        tensor(tree.token_ids),
        tensor(tree.depth),
        tensor(tree.end),
        tensor(tree.source),
        tensor(tree.target),
        torch.from_numpy(tree.weight).to(device, non_blocking=True),
        tensor(tree.part),
        None if rows is None else RowTensors(**{name: tensor(array) for name, array in vars(rows).items()}),
        None
        if kept is None
        else (
            tensor(kept.read_outs),
            torch.from_numpy(kept.weight).to(device, non_blocking=True),
            torch.from_numpy(kept.reference).to(device, non_blocking=True),
        ),
    )


def body_of(model: nn.Module) -> Any:
    """The transformer without its LM head."""
    inner = causal_lm(model)
    return getattr(inner, inner.base_model_prefix)


def hidden_states(
    model: nn.Module, batch: PackTensors, attention: TreeAttention, kept: Cache | None = None
) -> Tensor:
    """Last hidden states of a flattened tree; [L, width]. kept: where keys and values are left, as they ran."""
    rows = batch.rows
    end, depth = (batch.end[None], batch.depth[None]) if rows is None else (rows.end, rows.depth)
    as_rows = None if attention.takes_rows else rows
    output = body_of(model)(
        input_ids=batch.token_ids[None] if as_rows is None else batch.token_ids[as_rows.take],
        position_ids=batch.depth[None] if as_rows is None else depth,
        attention_mask=attention.masks(end, depth),
        past_key_values=kept,
        use_cache=kept is not None,
        **({ARGUMENT: rows} if attention.takes_rows and rows is not None else {}),
    )
    hidden: Tensor = output.last_hidden_state.flatten(0, 1)
    return hidden if as_rows is None else hidden[as_rows.place]


def read_out_states(model: nn.Module, batch: PackTensors, attention: TreeAttention) -> Tensor:
    """Last hidden state at every read-out's source; [R, width]."""
    if attention.kind == "plain":
        return _plain_states(model, batch)
    return hidden_states(model, batch, attention)[batch.source]


def _plain_states(model: nn.Module, batch: PackTensors) -> Tensor:
    """The same states from separate sequences, padded on the right and cut into batches."""
    tree, device = batch.tree, batch.token_ids.device
    sequences = sorted(plain_sequences(tree), key=lambda sequence: len(sequence[0]))
    pieces, orders = [], []
    while sequences:
        rows = max(1, min(len(sequences), PLAIN_TOKENS // len(sequences[-1][0])))
        taken, sequences = sequences[-rows:], sequences[:-rows]
        width = len(taken[-1][0])
        token_ids = np.zeros((rows, width), dtype=np.int64)
        mask = np.zeros((rows, width), dtype=np.int64)
        for row, (ids, _) in enumerate(taken):
            token_ids[row, : len(ids)], mask[row, : len(ids)] = ids, 1
        output = body_of(model)(
            input_ids=torch.from_numpy(token_ids).to(device),
            attention_mask=torch.from_numpy(mask).to(device),
            use_cache=False,
        )
        read_outs = np.concatenate([read_outs for _, read_outs in taken])
        row_of = np.repeat(np.arange(rows), [len(read_outs) for _, read_outs in taken])
        hidden = output.last_hidden_state[
            torch.from_numpy(row_of).to(device),
            torch.from_numpy(tree.depth[tree.source[read_outs]].astype(np.int64)).to(device),
        ]
        pieces.append(hidden)
        orders.append(torch.from_numpy(read_outs).to(device))
    if not pieces:
        return torch.zeros(0, causal_lm(model).config.get_text_config().hidden_size, device=device)
    inverse = torch.argsort(torch.cat(orders))
    return torch.cat(pieces)[inverse]


class TreeModel(nn.Module):
    """A causal LM whose forward takes a packed tree; what a training engine wraps.

    The LM head is called inside `forward`, so that engines which gather parameters by module hooks (ZeRO-3) see it.
    """

    label_tokens: Tensor | None

    def __init__(
        self,
        model: nn.Module,
        attention: TreeAttention,
        parts: int = 1,
        label_tokens: NDArray[np.int64] | None = None,
        kept_tail: KeptTail | None = None,
        allowed: AllowedTokens | None = None,
        focal: float = 0.0,
    ) -> None:
        """label_tokens: of the vocabulary's labels, ascending: in part 0, samples, no other can be said. None: all.
        kept_tail: what the kept samples of packs are asked for, which is the last part of the loss. allowed: which
        label tokens can be said at each place; None: all. focal: see `_focal`; 0: samples count alike.
        """
        super().__init__()
        self.model = model
        self.attention = attention
        self.parts = parts
        tokens = None if label_tokens is None else torch.from_numpy(label_tokens)
        self.register_buffer("label_tokens", tokens, persistent=False)
        self.kept_tail = kept_tail
        self.allowed = allowed
        self.focal = focal

    def forward(self, batch: PackTensors) -> tuple[Tensor, Tensor, Tensor]:
        """Returns (the weighted sum of the negative log-likelihoods, that sum by part [parts], nll [R]).

        With kept samples both sums have their divergence from the reference, too; the nll of their read-outs is 0.
        """
        states = read_out_states(self.model, batch, self.attention)
        nll = -self._log_probabilities(batch, states)
        # without weight it may be of a token that cannot be said
        weighted = (nll * batch.weight).masked_fill(batch.weight == 0, 0.0)
        if self.focal:
            weighted = weighted * self._focal(batch.tree, nll.masked_fill(batch.weight == 0, 0.0))
        by_part = torch.zeros(self.parts, device=nll.device, dtype=nll.dtype)
        by_part.index_add_(0, batch.part, weighted.detach())
        loss = weighted.sum()
        if self.kept_tail is not None and batch.kept is not None:
            read_outs, weight, reference = batch.kept
            kept = (self.kept_tail.divergence(self.model, states[read_outs], reference) * weight).sum()
            loss = loss + kept
            by_part[-1] += kept.detach()
        return loss, by_part, nll.detach()

    def _focal(self, tree: TokenTree, nll: Tensor) -> Tensor:
        """(1 - p)^focal of each read-out's sample, 1 of others; [R]. Focal loss: Lin et al., arXiv 1708.02002.

        p is the probability of the whole label, as the label is the class: by token, the certain ones of a long name
        would count for nothing and those that tell rare names from common ones alike (our choice).
        """
        of_sample = np.flatnonzero((tree.part == 0) & (tree.item >= 0))
        _, sample = np.unique(tree.item[of_sample], return_inverse=True)
        places, samples = (torch.from_numpy(array).to(nll.device) for array in (of_sample, sample))
        of_label = nll.new_zeros(len(of_sample)).index_add(0, samples, nll[places])
        # an exponent below 1 has no slope at 0, where p is 1
        missed = (-torch.expm1(-of_label)).clamp(min=torch.finfo(nll.dtype).tiny)
        return torch.ones_like(nll).index_copy(0, places, missed.pow(self.focal)[samples])

    def _log_probabilities(self, batch: PackTensors, states: Tensor) -> Tensor:
        """Of every read-out's target; [R]. 0 where the read-out is of a kept sample."""
        if self.label_tokens is None and batch.kept is None:
            return target_log_probabilities(self.model, states, batch.target)
        tree = batch.tree
        is_target = np.ones(len(tree.part), bool)
        if tree.kept is not None:
            is_target[tree.kept.read_outs] = False
        of_sample = tree.part == 0
        found = None
        for chosen, among in ((of_sample, self.label_tokens), (~of_sample, None)):
            if (chosen & is_target).any():
                place = torch.from_numpy(np.flatnonzero(chosen & is_target)).to(states.device)
                values = self._among(batch, states, place, among)
                found = values.new_zeros(len(states)) if found is None else found
                found = found.index_copy(0, place, values)
        assert found is not None, "a pack without a read-out"
        return found

    def _among(self, batch: PackTensors, states: Tensor, place: Tensor, among: Tensor | None) -> Tensor:
        """Of the targets of some read-outs, all of samples or none; among: tokens that they can be."""
        target = batch.target[place]
        if among is None or self.allowed is None:
            return target_log_probabilities(self.model, states[place], target, among)
        mask = torch.from_numpy(self.allowed.mask(batch.tree, place.cpu().numpy())).to(states.device)
        return target_log_probabilities(
            self.model, states[place], target, among, mask, self.allowed.temperature
        )
