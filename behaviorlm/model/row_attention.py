"""Attention over a token tree in short rows, while all else in the model runs once for each token of the tree.

Rows hold copies of what windows share, and padding: a quarter more tokens and up. Only attention needs them, as dense
masks cost the square of a row's length. So queries, keys and values are laid out as rows, and outputs taken back.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

ARGUMENT = "tree_rows"
"""Of a model's forward, which hands it down to its attention."""


class RowTensors(NamedTuple):
    """TreeRows as int64 tensors: take, depth, end [B, W] and place [L]; copies [C] are the flat places of tokens that
    stand elsewhere, too, and originals [C] those tokens.
    """

    take: Tensor
    depth: Tensor
    end: Tensor
    place: Tensor
    copies: Tensor
    originals: Tensor


class _InRows(torch.autograd.Function):
    """[L, heads, n] to [B * W, heads, n]. What padding holds is never looked at, and has no gradient."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, take: Tensor, place: Tensor, copies: Tensor, originals: Tensor
    ) -> Tensor:
        ctx.save_for_backward(place, copies, originals)
        return states.index_select(0, take.flatten())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        place, copies, originals = ctx.saved_tensors
        found = gradient.index_select(0, place)
        return added(found, originals, gradient.index_select(0, copies)), None, None, None, None


def added(found: Tensor, places: Tensor, more: Tensor) -> Tensor:
    """`found` [L, ...] with each of `more` [C, ...] added at its place [C], in place, in the same order each time.

    On CUDA index_add adds in whatever order its threads come; index_put sorts by place first. On a CPU it is index_put
    that has threads of which none waits.
    """
    if found.is_cuda:
        return found.index_put_((places,), more, accumulate=True)
    return found.index_add_(0, places, more)


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    tree_rows: RowTensors | None = None,
    **arguments: Any,
) -> tuple[Tensor, None]:
    """transformers' own attention by SDPA; with rows, of one tree's states [1, heads, L, n], and a mask of the rows."""
    if tree_rows is None:
        found: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **arguments
        )
        return found
    take, _, _, place, copies, originals = tree_rows
    query, key, value = (
        _InRows.apply(states[0].transpose(0, 1), take, place, copies, originals)
        .unflatten(0, take.shape)
        .transpose(1, 2)
        for states in (query, key, value)
    )
    output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **arguments)
    return output.flatten(0, 1).index_select(0, place)[None], None


AttentionInterface.register("sdpa", attend)
