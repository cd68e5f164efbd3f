"""Running a causal language model over token trees: hidden states, read-out log-probabilities, the weighted loss.

The LM head runs only on the positions that are read out: with a large vocabulary, full logits would be by far the
largest tensor of a step.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from behaviorlm.model.attention import TreeAttention
from behaviorlm.trees.token_tree import TokenTree, plain_sequences
from behaviorlm.trees.tree_rows import CUDA_MULTIPLE, ROW_TOKENS, tree_rows

HEAD_ROWS = 1024
"""Rows that go through the LM head at a time: bounds the logits to HEAD_ROWS x vocabulary."""

PLAIN_TOKENS = 4096
"""Tokens of a batch where a tree is run as plain sequences."""

_LOGIT_FACTORS = ("logit_scale", "lm_head_multiplier", "output_multiplier")  # Cohere, Falcon-H1, Muse
_LOGIT_CAPS = (
    "final_logit_softcapping",
    "logits_soft_cap",
    "output_logit_soft_cap",
)  # Gemma, RecurrentGemma, xLSTM


@dataclass(frozen=True)
class PackTensors:
    """A token tree as tensors: L tokens, R read-outs; see TokenTree. int64, `weight` float32.

    rows: (take, depth, end, place) of TreeRows, where the tree runs as several rows.
    """

    tree: TokenTree
    token_ids: Tensor
    depth: Tensor
    end: Tensor
    source: Tensor
    target: Tensor
    weight: Tensor
    part: Tensor
    rows: tuple[Tensor, Tensor, Tensor, Tensor] | None = None


def pack_tensors(
    tree: TokenTree, device: torch.device | str, row_tokens: int | None = ROW_TOKENS
) -> PackTensors:
    """Move a tree to a device, cut into rows of about `row_tokens` where that is less work; None: never cut."""

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array.astype(np.int64)).to(device, non_blocking=True)

    multiple = CUDA_MULTIPLE if torch.device(device).type == "cuda" else 1
    rows = None if row_tokens is None else tree_rows(tree, row_tokens, multiple)
    return PackTensors(
        tree,
        tensor(tree.token_ids),
        tensor(tree.depth),
        tensor(tree.end),
        tensor(tree.source),
        tensor(tree.target),
        torch.from_numpy(tree.weight).to(device, non_blocking=True),
        tensor(tree.part),
        None
        if rows is None
        else (tensor(rows.take), tensor(rows.depth), tensor(rows.end), tensor(rows.place)),
    )


def causal_lm(model: nn.Module) -> Any:
    """The transformers model inside a peft wrapper, or the model itself."""
    unwrap: Any = getattr(model, "get_base_model", None)  # peft's; a plan does without importing it
    return model if unwrap is None else unwrap()


def body_of(model: nn.Module) -> Any:
    """The transformer without its LM head."""
    inner = causal_lm(model)
    return getattr(inner, inner.base_model_prefix)


def hidden_states(model: nn.Module, batch: PackTensors, attention: TreeAttention) -> Tensor:
    """Last hidden states of a flattened tree; [L, width]."""
    if batch.rows is None:
        token_ids, depth, end = batch.token_ids[None], batch.depth[None], batch.end[None]
    else:
        take, depth, end, _ = batch.rows
        token_ids = batch.token_ids[take]
    output = body_of(model)(
        input_ids=token_ids,
        position_ids=depth,
        attention_mask=attention.masks(end, depth),
        use_cache=False,
    )
    hidden: Tensor = output.last_hidden_state.flatten(0, 1)
    return hidden if batch.rows is None else hidden[batch.rows[3]]


def target_log_probabilities(
    model: nn.Module, hidden: Tensor, target: Tensor, among: Tensor | None = None
) -> Tensor:
    """Log-probability of `target` (int64 [R]) under the LM head at `hidden` [R, width]; [R], float32 at least.

    among: int64 [n], ascending, the tokens that can be said: as if the logits of all others were -inf. None: all.
    Runs HEAD_ROWS rows at a time; while gradients are recorded, the logits are recomputed instead of kept.
    """
    rows = None if among is None else head_rows(model, among)
    pieces = []
    for start in range(0, max(len(hidden), 1), HEAD_ROWS):
        piece = (model, hidden[start : start + HEAD_ROWS], target[start : start + HEAD_ROWS], among, rows)
        if torch.is_grad_enabled() and len(hidden) > HEAD_ROWS:
            pieces.append(checkpoint(_head_log_probabilities, *piece, use_reentrant=False))
        else:
            pieces.append(_head_log_probabilities(*piece))
    return torch.cat(pieces)


HeadRows = tuple[Tensor, Tensor | None]
"""Rows of the LM head's matrix, [..., width], and their biases; float32 at least."""


def head_rows(model: nn.Module, tokens: Tensor) -> HeadRows | None:
    """The rows of the LM head for some tokens (int64, any shape): few of them cost next to nothing.

    None where the head runs whole.
    """
    head = plain_matrix(model)
    if head is None:
        return None
    return precise(head.weight[tokens]), None if head.bias is None else precise(head.bias[tokens])


def plain_matrix(model: nn.Module) -> nn.Linear | None:
    """The LM head where its matrix is all of it, and here.

    One with an adapter, or of another kind, is more than its matrix, and a sharded one holds nothing here.
    """
    head = causal_lm(model).get_output_embeddings()
    return head if type(head) is nn.Linear and head.weight.numel() else None


def precise(values: Tensor) -> Tensor:
    """In float32 at least: a softmax of bfloat16 logits is off by a percent."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def head_logits(model: nn.Module, hidden: Tensor) -> Tensor:
    """Logits of the LM head, with the model's own scaling and soft cap; [..., vocabulary], float32 at least.

    The keys are those of the architectures in transformers; `choose_attention` refuses a model with others.
    """
    head = causal_lm(model).get_output_embeddings()
    # Mamba's hidden states are float32 beside bfloat16 weights. As one matrix: a slice [B, n, width] of a larger tensor
    # would be multiplied in B products, each of which reads the whole head (20 times as slow on an H200).
    rows = hidden.to(head.weight.dtype).reshape(-1, hidden.shape[-1])
    logits = head(rows).unflatten(0, hidden.shape[:-1])
    return precise(adjusted_logits(model, logits))


def adjusted_logits(model: nn.Module, logits: Tensor) -> Tensor:
    """The scaling and soft cap that the model's own code puts on what its LM head gives, for any part of it."""
    config = causal_lm(model).config.get_text_config()
    for key in _LOGIT_FACTORS:
        if getattr(config, key, None):
            logits = logits * getattr(config, key)
    scaling = getattr(config, "logits_scaling", None)
    if scaling:
        logits = logits * scaling if config.model_type.startswith("hyperclovax") else logits / scaling
    for key in _LOGIT_CAPS:
        cap = getattr(config, key, None)
        if cap:
            logits = torch.tanh(logits / cap) * cap
    return logits


def _head_log_probabilities(
    model: nn.Module, hidden: Tensor, target: Tensor, among: Tensor | None, rows: HeadRows | None
) -> Tensor:
    if rows is not None:
        logits = adjusted_logits(model, functional.linear(precise(hidden), *rows))
    else:
        logits = head_logits(model, hidden)
        logits = logits if among is None else logits[:, among]
    normalizer = torch.logsumexp(logits, dim=-1)
    if among is None:
        return logits.gather(-1, target[:, None])[:, 0] - normalizer
    place = torch.searchsorted(among, target).clamp(max=len(among) - 1)
    found = logits.gather(-1, place[:, None])[:, 0] - normalizer
    return found.masked_fill(among[place] != target, -torch.inf)


def read_out_log_probabilities(model: nn.Module, batch: PackTensors, attention: TreeAttention) -> Tensor:
    """Log-probability of every read-out's target; float32 [R]."""
    return target_log_probabilities(model, read_out_states(model, batch, attention), batch.target)


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
    ) -> None:
        """label_tokens: of the vocabulary's labels, ascending: in part 0, samples, no other can be said. None: all."""
        super().__init__()
        self.model = model
        self.attention = attention
        self.parts = parts
        tokens = None if label_tokens is None else torch.from_numpy(label_tokens)
        self.register_buffer("label_tokens", tokens, persistent=False)

    def forward(self, batch: PackTensors) -> tuple[Tensor, Tensor, Tensor]:
        """Returns (the weighted sum of the negative log-likelihoods, that sum by part [parts], nll [R])."""
        nll = -self._log_probabilities(batch, read_out_states(self.model, batch, self.attention))
        # without weight it may be of a token that cannot be said
        weighted = (nll * batch.weight).masked_fill(batch.weight == 0, 0.0)
        by_part = torch.zeros(self.parts, device=nll.device, dtype=nll.dtype)
        return weighted.sum(), by_part.index_add(0, batch.part, weighted.detach()), nll.detach()

    def _log_probabilities(self, batch: PackTensors, states: Tensor) -> Tensor:
        """Of every read-out's target; [R]."""
        if self.label_tokens is None:
            return target_log_probabilities(self.model, states, batch.target)
        of_sample = batch.tree.part == 0
        pieces, places = [], []
        for chosen, among in ((of_sample, self.label_tokens), (~of_sample, None)):
            if chosen.any():
                place = torch.from_numpy(np.flatnonzero(chosen)).to(states.device)
                places.append(place)
                pieces.append(target_log_probabilities(self.model, states[place], batch.target[place], among))
        return torch.cat(pieces)[torch.argsort(torch.cat(places))]
