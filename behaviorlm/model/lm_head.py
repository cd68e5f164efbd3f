"""The LM head: logits and log-probabilities at hidden states, for all tokens or for some of them alone.

It runs apart from the model's own code, on the positions that are read out: with a large vocabulary, full logits would
be by far the largest tensor of a step.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

HEAD_ROWS = 1024
"""Rows that go through the LM head at a time: bounds the logits to HEAD_ROWS x vocabulary."""

_LOGIT_FACTORS = ("logit_scale", "lm_head_multiplier", "output_multiplier")  # Cohere, Falcon-H1, Muse
# Gemma, RecurrentGemma, xLSTM
_LOGIT_CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")


def causal_lm(model: nn.Module) -> Any:
    """The transformers model inside a peft wrapper, or the model itself."""
    unwrap: Any = getattr(model, "get_base_model", None)  # peft's; a plan does without importing it
    return model if unwrap is None else unwrap()


def target_log_probabilities(
    model: nn.Module,
    hidden: Tensor,
    target: Tensor,
    among: Tensor | None = None,
    allowed: Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Log-probability of `target` (int64 [R]) under the LM head at `hidden` [R, width]; [R], float32 at least.

    among: int64 [n], ascending, the tokens that can be said: as if the logits of all others were -inf. None: all.
    allowed: bool [R, n], which of them can be said at each; None: all. Their logits are divided by the temperature.
    Runs HEAD_ROWS rows at a time; while gradients are recorded, the logits are recomputed instead of kept.
    """
    rows = None if among is None else head_rows(model, among)
    pieces = []
    for start in range(0, max(len(hidden), 1), HEAD_ROWS):
        of = slice(start, start + HEAD_ROWS)
        mask = None if allowed is None else allowed[of]
        piece = (model, hidden[of], target[of], among, rows, mask, temperature)
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
    """The head where its matrix is all of it, and here.

    One with an adapter, or of another kind, is more than its matrix, and a sharded one holds nothing here.
    """
    head = causal_lm(model).get_output_embeddings()
    return head if type(head) is nn.Linear and head.weight.numel() else None


def logits_among(model: nn.Module, hidden: Tensor, among: Tensor, rows: HeadRows | None) -> Tensor:
    """Logits of some tokens (int64 [n]) at `hidden` [..., width]; [..., n], float32 at least.

    rows: what `head_rows` gives for them, gathered once for many calls.
    """
    if rows is None:
        return head_logits(model, hidden)[..., among]
    return adjusted_logits(model, functional.linear(precise(hidden), *rows))


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
    model: nn.Module,
    hidden: Tensor,
    target: Tensor,
    among: Tensor | None,
    rows: HeadRows | None,
    allowed: Tensor | None,
    temperature: float,
) -> Tensor:
    logits = head_logits(model, hidden) if among is None else logits_among(model, hidden, among, rows)
    if allowed is not None:
        logits = (logits / temperature).masked_fill(~allowed, -torch.inf)
    normalizer = torch.logsumexp(logits, dim=-1)
    if among is None:
        return logits.gather(-1, target[:, None])[:, 0] - normalizer
    place = torch.searchsorted(among, target).clamp(max=len(among) - 1)
    found = logits.gather(-1, place[:, None])[:, 0] - normalizer
    return found.masked_fill(among[place] != target, -torch.inf)
