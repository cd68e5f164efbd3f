"""Trying out how a kind of model takes trees, on a small one of the same kind with random weights, in float32.

Whether a layer takes an ancestor mask is a matter of its code and its configuration, not of its weights. So it is
tried where right and wrong cannot be confused: in bfloat16 a large model's own rounding is as large as what a wrong
mask does.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from behaviorlm.model.attention import TreeAttention
from behaviorlm.model.tree_model import body_of, hidden_states, pack_tensors
from behaviorlm.trees.token_tree import TokenTree, TreeWriter

SIBLINGS = 2048
"""Tokens of unrelated branches in a probe tree, at most."""
WINDOW = 7
"""Sliding windows are made this short, so that a short tree goes beyond them."""
VOCABULARY, WIDTH = 256, 64
"""Of the small model, at most: embeddings and feed-forward layers say nothing of masks."""
GAIN = 1.5
"""Of the random weights: attention is then far from uniform, and which token is seen makes a difference."""

_WIDTHS = ("intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size", "n_inner")


def small_model(model: PreTrainedModel) -> PreTrainedModel | None:
    """A model of the same class and configuration on the CPU, with one layer of each kind where that can be made.

    model: without an adapter's wrapper; it may be on torch's meta device. None where no small one has the same kinds of
    layers, or its layers are not found.
    """
    kinds = [_kind(layer) for layer in _layers(model)]
    if not kinds:  # a small one without any would take every mask
        return None
    first = sorted({kind: place for place, kind in reversed(list(enumerate(kinds)))}.values())
    for chosen in (first, list(range(first[-1] + 1)), list(range(len(kinds)))):
        try:
            small = _built(type(model), _small_config(model.config, chosen, len(kinds)))
        # Any code may meet a configuration that it was not written for; the next one is nearer to its own.
        except Exception:
            continue
        if {_kind(layer) for layer in _layers(small)} == set(kinds):
            return small
    return None


@torch.no_grad()
def largest_difference(model: nn.Module, attention: TreeAttention) -> float:
    """How far hidden states on a random tree are from those of plain sequences, relative to their length.

    Rounding in float32 gives about 1e-6, a wrong mask 1e-2 and more; infinite where numbers are not finite. Raises
    whatever the model's code does where it does not take such masks.
    """
    tree, leaves = _probe_tree(model)
    device = next(model.parameters()).device
    # As one row: cut into short ones, the tree would not be wide.
    found = hidden_states(model, pack_tensors(tree, device, row_tokens=None), attention).float()
    largest = 0.0
    for leaf in leaves:
        path = tree.path_to(leaf)
        ids = torch.from_numpy(tree.token_ids[path].astype(np.int64)).to(device)
        plain: Tensor = body_of(model)(input_ids=ids[None], use_cache=False).last_hidden_state[0].float()
        difference = (found[torch.from_numpy(path).to(device)] - plain).norm(dim=-1) / plain.norm(dim=-1)
        largest = max(largest, float(torch.nan_to_num(difference, nan=torch.inf).max()))
    return largest


@torch.no_grad()
def difference_in_rows(model: nn.Module, attention: TreeAttention) -> float:
    """How far hidden states with rows in attention alone are from those of one row, relative to their length.

    Infinite where numbers are not finite, or the tree is not cut, as with long windows, and nothing is seen. Raises
    whatever the model's code does where it does not know of rows.
    """
    tree, _ = _probe_tree(model)
    device = next(model.parameters()).device
    cut = pack_tensors(tree, device, row_tokens=1)
    if cut.rows is None:
        return float("inf")
    whole = hidden_states(model, pack_tensors(tree, device, row_tokens=None), attention).float()
    in_rows = replace(attention, takes_rows=True)
    found = hidden_states(model, cut, in_rows).float()
    difference = (found - whole).norm(dim=-1) / whole.norm(dim=-1)
    return float(torch.nan_to_num(difference, nan=torch.inf).max())


def _layers(model: PreTrainedModel) -> Sequence[nn.Module]:
    """The layers of the body, whatever its code calls them: the longest of the lists of modules nearest below it."""
    level = [getattr(model, model.base_model_prefix, None)]
    while level := [child for module in level if module is not None for child in module.children()]:
        lists = [list(module) for module in level if isinstance(module, nn.ModuleList)]
        if lists:
            return max(lists, key=len)
    return []


def _kind(layer: nn.Module) -> tuple[Any, ...]:
    """What kind of layer it is: its modules, and what they say of windows and types. Adapters do not change it."""
    return tuple(
        (name, type(module).__qualname__, *_marks(module))
        for name, module in layer.named_modules()
        if not type(module).__module__.startswith(("torch.", "peft.", "behaviorlm."))
        and list(module.children())
    )


def _marks(module: nn.Module) -> list[tuple[str, Any]]:
    found = [
        (name, value if isinstance(value, bool | str) else value is None)
        for name, value in vars(module).items()
        if isinstance(value, bool | str | int | None)
        and any(mark in name for mark in ("window", "sliding", "type", "local"))
    ]
    return sorted(found)


def _is_window(key: str) -> bool:
    """Not `max_window_layers`, which is a number of layers."""
    return "window" in key and "layers" not in key


def _small_config(config: PretrainedConfig, chosen: Sequence[int], layers: int) -> PretrainedConfig:
    """The configuration with some of the layers, short windows and a small vocabulary; no lengths of positions."""
    small = copy.deepcopy(config)
    text = small.get_text_config()
    for part in {id(small): small, id(text): text}.values():
        part.dtype = torch.float32
        part.__dict__.pop("quantization_config", None)
    for key, value in list(vars(text).items()):
        if isinstance(value, list | tuple) and len(value) == layers and key != "architectures":
            setattr(text, key, type(value)(value[place] for place in chosen))
        elif _is_window(key) and type(value) is int:
            setattr(text, key, min(value, WINDOW))
        elif key in _WIDTHS and type(value) is int:
            setattr(text, key, min(value, WIDTH))
        elif key.endswith("_token_id") and type(value) is int and value >= VOCABULARY:
            setattr(text, key, None)
    text.num_hidden_layers = len(chosen)
    text.vocab_size = min(text.vocab_size, VOCABULARY)
    return small


def _built(kind: type[PreTrainedModel], config: PretrainedConfig) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]), torch.device("cpu"), torch.no_grad():
        torch.manual_seed(0)
        model: PreTrainedModel = kind(config)
        model.float().eval().requires_grad_(False)
        for module in model.modules():
            for parameter in module.parameters(recurse=False):
                if parameter.dim() > 1:
                    inputs = 1 if isinstance(module, nn.Embedding) else parameter.shape[-1]
                    parameter.normal_(0, GAIN / inputs**0.5)
    return model


def _probe_tree(model: nn.Module) -> tuple[TokenTree, list[int]]:
    """A random tree with branches that are deeper than a short window, and the leaves at which it is looked at.

    Tokens of unrelated branches stand between the branches and what they attend to: more than any window, and more than
    any causal mask that the model keeps as a buffer, so that whatever its code cuts off by a token's place shows.
    """
    config = body_of(model).config.get_text_config()
    random = np.random.default_rng(0)
    windows = [value for key, value in config.to_dict().items() if _is_window(key) and type(value) is int]
    masks = [
        mask.shape[-1] for mask in model.buffers() if mask.dim() > 1 and mask.shape[-1] == mask.shape[-2]
    ]
    siblings = max([64, *(length for length in windows + masks if length <= SIBLINGS)])
    positions = getattr(config, "max_position_embeddings", None) or SIBLINGS
    run = min(max([2 * WINDOW, *(length + 2 for length in windows)]), 600, max(6, positions // 3))

    def tokens(count: int) -> np.ndarray:
        return random.integers(1, config.vocab_size, count).astype(np.int32)

    writer = TreeWriter()
    writer.open(tokens(run))
    unrelated = [writer.leaf(tokens(8)) for _ in range(0, siblings, 8)]
    leaves = []
    for _ in range(3):
        leaves.append(writer.leaf(tokens(5)))
        writer.open(tokens(4))
    return writer.finish(), [unrelated[0], unrelated[-1], *leaves]
