"""Choosing how one model takes token trees, by trying it out.

Whatever a model's configuration says, each way is tried on a small float32 model of its kind against plain sequences,
once for each architecture and configuration in a process. Then the model itself shows, in its own numbers and on its
own device, that branches of a tree do not see each other.
"""

import hashlib
import json
import logging
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from behaviorlm.errors import ModelError
from behaviorlm.model.attention import TreeAttention
from behaviorlm.model.attention_probe import difference_in_rows, largest_difference, small_model
from behaviorlm.model.base_model import model_without_weights
from behaviorlm.model.config import ModelConfig
from behaviorlm.model.lm_head import causal_lm, head_logits
from behaviorlm.model.tree_model import body_of, hidden_states, pack_tensors
from behaviorlm.trees.token_tree import TokenTree, TreeWriter

if TYPE_CHECKING:
    from peft import PeftModel

logger = logging.getLogger(__name__)

TOLERANCE = 1e-3
"""Largest relative difference of hidden states of a small model from those of plain sequences. Measured over all
architectures of the tests: 5e-7 with right masks, .5 and more with wrong ones, as with a window off by one."""
SEEN_SHARE = 0.02
"""What a branch's states may change by when another branch changes, as a share of what they change by when what they
attend to does. The same shapes give the same bits, so it is 0 with right masks; .27 and more where branches see each
other, measured likewise. The rest is for code whose shapes depend on values, such as mixtures of experts."""

# What a model raises that gets a mask or an argument unknown to it.
_NOT_TAKEN = (TypeError, ValueError, RuntimeError, AttributeError, KeyError)

_of_kind: dict[str, TreeAttention] = {}
_confirmed: dict[str, bool] = {}


def choose_attention(model: "PreTrainedModel | PeftModel", *, allow_plain: bool = True) -> TreeAttention:
    """Choose how `model` takes trees: the first way that gives the numbers of plain sequences, else "plain".

    The model's weights and mode are left as they are. The choice of plain sequences is announced as a warning, and
    without `allow_plain` refused by a ModelError. Raises one also where not even they give the model's own logits.
    Switches cuDNN's attention off for the process: it plans anew for each shape, and packs seldom have one twice.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)
    inner: PreTrainedModel = causal_lm(model)
    parameter = next(model.parameters())
    attention = _attention_of(inner)
    if attention.kind != "plain":
        # Added, as eager attention takes it; SDPA would turn booleans into numbers anew in every layer.
        attention = replace(attention, additive=parameter.dtype)
        key = f"{_fingerprint(inner)} {parameter.dtype} {parameter.device.type}"
        if key not in _confirmed:
            _confirmed[key] = seen_share(model, attention) <= SEEN_SHARE
        if not _confirmed[key]:
            attention = TreeAttention("plain")
    if attention.kind == "plain":
        if not allow_plain:
            raise ModelError(plain_is_refused(inner.config.get_text_config().model_type))
        logger.warning(
            "model: %s gives other numbers on token trees than on plain sequences: plain sequences are used "
            "(same numbers, slower)",
            inner.config.get_text_config().model_type,
        )
    return attention


def planned_attention(config: ModelConfig) -> TreeAttention | None:
    """The same from a configuration alone; None where only a model with weights can tell."""
    network = model_without_weights(config)
    if network is None or (_fingerprint(network) not in _of_kind and small_model(network) is None):
        return None
    return _attention_of(network)


def plain_is_refused(model_type: str) -> str:
    """What is said where a model takes no token trees and plain sequences are not allowed."""
    return (
        f"model.base: a {model_type} model does not take token trees, and execution.allow_plain is false; it would run "
        "as plain sequences, with the same numbers and many times the tokens. Set it to true, or give a base whose "
        "layers all are attention (docs/method.md, Token trees)"
    )


def _attention_of(model: PreTrainedModel) -> TreeAttention:
    """What a small model of this kind takes. Raises ModelError where its logits are not its hidden states' own."""
    key = _fingerprint(model)
    if key not in _of_kind:
        small = small_model(model)
        tried = model if small is None else small
        was_training = tried.training
        tried.eval()
        try:
            _check_head(tried)
            _of_kind[key] = _first_exact(model.config.get_text_config(), tried)
        finally:
            tried.train(was_training)
    return _of_kind[key]


def _first_exact(config: PretrainedConfig, tried: PreTrainedModel) -> TreeAttention:
    tried_config = tried.config.get_text_config()
    for candidate, on_tried in zip(_candidates(config), _candidates(tried_config), strict=True):
        added = next(tried.parameters()).dtype
        try:
            difference = largest_difference(tried, replace(on_tried, additive=added))
        except _NOT_TAKEN as error:
            logger.info("%s does not take %s masks: %s", config.model_type, candidate.kind, error)
            continue
        logger.info(
            "%s with %s masks: relative difference %.1e", config.model_type, candidate.kind, difference
        )
        if difference <= TOLERANCE:
            return replace(candidate, takes_rows=_takes_rows(tried, replace(on_tried, additive=added)))
    return TreeAttention("plain")


def _takes_rows(tried: PreTrainedModel, attention: TreeAttention) -> bool:
    """Whether the model's code hands rows down to its attention, which gives the same numbers then."""
    try:
        difference = difference_in_rows(tried, attention)
    except _NOT_TAKEN as error:
        logger.info("%s runs on rows as a whole: %s", type(tried).__name__, error)
        return False
    return difference <= TOLERANCE


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


def _fingerprint(model: PreTrainedModel) -> str:
    """Of what decides: the class, and the configuration but for where it came from and its numbers' type."""
    stored = model.config.to_dict()
    told = {
        key: value for key, value in stored.items() if key not in ("_name_or_path", "dtype", "torch_dtype")
    }
    kind = f"{type(model).__module__}.{type(model).__qualname__} {model.config._attn_implementation} "
    return hashlib.sha256((kind + json.dumps(told, sort_keys=True, default=str)).encode()).hexdigest()


@torch.no_grad()
def seen_share(model: "PreTrainedModel | PeftModel", attention: TreeAttention) -> float:
    """What a branch of a tree changes by when the one beside it does, as a share of what it does with what is above it.

    All has the same shape each time, so that rounding does not count, whatever the numbers' type. Infinite where the
    model does not take such masks as it is, or numbers are not finite.
    """
    was_training = model.training
    model.eval()
    try:
        tree, above, branch, beside = _branches(model.config.get_text_config().vocab_size)
        first = _states(model, tree, attention)[branch]
        moved = [
            float((_states(model, _changed(tree, places), attention)[branch] - first).norm())
            for places in (beside, above)
        ]
    except _NOT_TAKEN as error:
        logger.info("%s does not take %s masks: %s", type(model).__name__, attention.kind, error)
        return math.inf
    finally:
        model.train(was_training)
    share = moved[0] / moved[1] if moved[1] else math.inf
    return math.inf if math.isnan(share) else share


def _branches(vocabulary: int) -> tuple[TokenTree, slice, slice, slice]:
    """A trunk with two branches, and where its tokens, those of the second and those of the first branch stand."""
    random = np.random.default_rng(0)
    writer = TreeWriter()
    writer.open(random.integers(1, vocabulary, 8).astype(np.int32))
    for _ in range(2):
        writer.leaf(random.integers(1, vocabulary, 6).astype(np.int32))
    return writer.finish(), slice(1, 8), slice(14, 20), slice(8, 14)


def _changed(tree: TokenTree, places: slice) -> TokenTree:
    ids = tree.token_ids.copy()
    ids[places] = np.roll(ids[places], 1)
    return replace(tree, token_ids=ids)


def _states(model: "PreTrainedModel | PeftModel", tree: TokenTree, attention: TreeAttention) -> Tensor:
    batch = pack_tensors(tree, next(model.parameters()).device, row_tokens=None)
    return hidden_states(model, batch, attention).float()


@torch.no_grad()
def _check_head(model: PreTrainedModel) -> None:
    """Raise ModelError unless the LM head, which is run here apart from the body, gives the model's own logits."""
    kind = model.config.get_text_config().model_type
    ids = torch.arange(1, 13, device=next(model.parameters()).device)[None]
    try:
        found = head_logits(model, body_of(model)(input_ids=ids, use_cache=False).last_hidden_state)
    except _NOT_TAKEN as error:
        raise ModelError(
            f"model.base: a {kind} model cannot be run as body and LM head ({error}); give another base"
        ) from error
    own = model(input_ids=ids, use_cache=False).logits.float()
    difference = float((found - own).abs().max() / own.abs().max().clamp(min=1e-6))
    # The same shapes give nearly the same bits in any type of numbers.
    if not difference <= 0.01:
        raise ModelError(
            f"model.base: a {kind} model's own logits differ from those computed from its hidden states by up to "
            f"{difference:.3g} of the largest; it changes the logits of its LM head in a way that is not known here, "
            "and losses and scores would be wrong. Give another base"
        )
