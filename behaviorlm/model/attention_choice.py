"""Choosing how one model takes token trees, by trying it out.

Whatever a model's configuration says, each way is tried once against plain sequences, and plain sequences against the
model's own logits.
"""

import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from behaviorlm.errors import ModelError
from behaviorlm.model.attention import TreeAttention
from behaviorlm.model.tree_model import pack_tensors, read_out_log_probabilities
from behaviorlm.trees.token_tree import TokenTree, TreeWriter, plain_sequences

logger = logging.getLogger(__name__)

PROBE_SIBLINGS = 2048
"""Tokens of unrelated branches in a probe tree, at most: more would take too long with large models."""

# What a model raises that gets a mask or an argument unknown to it.
_NOT_TAKEN = (TypeError, ValueError, RuntimeError, AttributeError, KeyError)


def choose_attention(model: PreTrainedModel | PeftModel) -> TreeAttention:
    """Choose how `model` takes trees: the first way that gives the numbers of plain sequences, else "plain".

    The model is tried once on a small random tree; its weights and mode are left as they are. The choice of plain
    sequences is announced as a warning. Raises ModelError where even they do not give the model's own logits.
    """
    config = model.config.get_text_config()
    tree = _probe_tree(config, _siblings(model, config))
    was_training = model.training
    model.eval()
    try:
        attention = _first_exact(model, config, tree)
    finally:
        model.train(was_training)
    if attention.kind == "plain":
        logger.warning(
            "model: %s gives other numbers on token trees than on plain sequences: plain sequences are used "
            "(same numbers, slower)",
            config.model_type,
        )
    return attention


def _first_exact(
    model: PreTrainedModel | PeftModel, config: PretrainedConfig, tree: TokenTree
) -> TreeAttention:
    expected = _plain_log_probabilities(model, tree)
    for candidate in _candidates(config):
        attention = replace(candidate, additive=_added_dtype(model, config))
        try:
            actual = _tree_log_probabilities(model, tree, attention)
        except _NOT_TAKEN as error:
            logger.info("%s does not take %s masks: %s", config.model_type, attention.kind, error)
            continue
        if torch.allclose(actual, expected, rtol=0, atol=_tolerance(model)):
            return attention
    _check_plain(model, config, tree, expected)
    return TreeAttention("plain")


def _check_plain(
    model: PreTrainedModel | PeftModel, config: PretrainedConfig, tree: TokenTree, expected: Tensor
) -> None:
    """Raise ModelError unless plain sequences, whose LM head is run here, give the model's own numbers."""
    try:
        actual = _tree_log_probabilities(model, tree, TreeAttention("plain"))
    except _NOT_TAKEN as error:
        raise ModelError(
            f"model.base: a {config.model_type} model cannot be run as body and LM head ({error}); give another base"
        ) from error
    exact = next(model.parameters()).dtype == torch.float32
    # Unlike for trees there is nothing to fall back to, so rounding (of bfloat16 above all) must not count.
    if not torch.allclose(actual, expected, rtol=1e-3 if exact else 0.05, atol=_tolerance(model)):
        raise ModelError(
            f"model.base: a {config.model_type} model's own log-probabilities differ from those computed from its "
            f"hidden states by up to {float((actual - expected).abs().max()):.3g}; it changes the logits of its LM "
            "head in a way that is not known here, and losses and scores would be wrong. Give another base"
            + ("" if exact else ", or rule out rounding with model.dtype: float32")
        )


def _added_dtype(model: PreTrainedModel | PeftModel, config: PretrainedConfig) -> torch.dtype | None:
    """Eager attention adds the mask; on CPU, SDPA would turn booleans into numbers anew in every layer."""
    parameter = next(model.parameters())
    return (
        parameter.dtype if config._attn_implementation == "eager" or parameter.device.type == "cpu" else None
    )


def _candidates(config: PretrainedConfig) -> Iterator[TreeAttention]:
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or getattr(config, "attention_layers", None) or [])
    if not kinds <= {"full_attention", "sliding_attention", "global"}:
        # Recurrent or otherwise stateful layers see every earlier token, whatever the mask says; GPT-Neo's local
        # ones count their window in flattened tokens.
        return
    if "sliding_attention" in kinds:
        yield TreeAttention("per_layer", window)
        yield TreeAttention("sliding", window)
    elif window:
        yield TreeAttention("sliding", window)
    else:
        yield TreeAttention("full")


def _siblings(model: PreTrainedModel | PeftModel, config: PretrainedConfig) -> int:
    """How many unrelated tokens a probe tree needs before whatever the model's code cuts off by index shows.

    That is beyond each window of the configuration and each causal mask that the model keeps as a buffer.
    """
    windows = [value for key, value in config.to_dict().items() if "window" in key and type(value) is int]
    masks = [
        buffer.shape[-1]
        for buffer in model.buffers()
        if buffer.dim() > 1 and buffer.shape[-1] == buffer.shape[-2]
    ]
    return max([64, *(length for length in windows + masks if length <= PROBE_SIBLINGS)])


def _probe_tree(config: PretrainedConfig, siblings: int) -> TokenTree:
    """A random tree with branches that are deeper than a small sliding window.

    `siblings` tokens of unrelated leaves stand between the branches and what they attend to.
    """
    random = np.random.default_rng(0)
    window = getattr(config, "sliding_window", None) or 0
    run = min(max(6, window + 2), 600, max(6, (getattr(config, "max_position_embeddings", 64) or 64) // 3))

    def tokens(count: int) -> np.ndarray:
        return random.integers(1, config.vocab_size, count).astype(np.int32)

    writer = TreeWriter()
    writer.open(tokens(run))
    for _ in range(0, siblings, 8):
        writer.leaf(tokens(8))
    for item in range(3):
        writer.predicted_leaf(tokens(3), tokens(3), weight=1.0, part=0, item=item)
        writer.open(tokens(4))
    return writer.finish()


def _tolerance(model: PreTrainedModel | PeftModel) -> float:
    return 1e-3 if next(model.parameters()).dtype == torch.float32 else 0.25


@torch.no_grad()
def _plain_log_probabilities(model: PreTrainedModel | PeftModel, tree: TokenTree) -> Tensor:
    device = next(model.parameters()).device
    result = torch.zeros(len(tree.source))
    for token_ids, read_outs in plain_sequences(tree):
        logits = (
            model(input_ids=torch.tensor(token_ids, device=device, dtype=torch.long)[None]).logits[0].float()
        )
        log_probabilities = torch.log_softmax(logits[tree.depth[tree.source[read_outs]]], dim=-1)
        result[read_outs] = log_probabilities[range(len(read_outs)), tree.target[read_outs]].cpu()
    return result


@torch.no_grad()
def _tree_log_probabilities(
    model: PreTrainedModel | PeftModel, tree: TokenTree, attention: TreeAttention
) -> Tensor:
    device = next(model.parameters()).device
    # As one row: cut into short ones, the tree would not be wide.
    batch = pack_tensors(tree, device, row_tokens=len(tree))
    return read_out_log_probabilities(model, batch, attention).cpu()
