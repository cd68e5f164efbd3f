"""How large a model is where it is tuned: its weights, and what a forward pass keeps for the backward one.

What is kept is not reckoned by a formula for each architecture: the model's own code runs on torch's meta device,
without numbers or memory, and what it saves for the backward pass is counted.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AttentionInterface

from behaviorlm.model.lm_head import causal_lm
from behaviorlm.model.tree_model import body_of
from behaviorlm_ray.costs.operations import model_work

COUNTED_TOKENS = 64
_COUNTED = "behaviorlm_counted"


@dataclass(frozen=True)
class ModelSizes:
    """weights, trainable: numbers of them. matrices: of those that each token meets. largest: of the largest trainable
    tensor. bytes: of one weight as it is held in a pass. layers, width: of the body. vocabulary: rows of the head.
    kept: bytes that a token's way through the body leaves for the backward pass; None where the model's code does not
    run without numbers.
    """

    weights: int
    trainable: int
    matrices: float
    largest: int
    bytes: int
    layers: int
    width: int
    vocabulary: int
    kept: float | None


def model_sizes(model: nn.Module, dtype: str | None = None) -> ModelSizes:
    """Of a model with its adapter, here or on the meta device, in training mode or not; nothing of it is changed.

    dtype: in which its weights would be held, such as "bfloat16"; None: as they are.
    """
    config = causal_lm(model).config.get_text_config()
    trainable = [parameter.numel() for parameter in model.parameters() if parameter.requires_grad]
    whole = len(list(model.parameters()))
    held = next(parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
    if dtype is not None:
        held = getattr(torch, dtype)
    return ModelSizes(
        sum(parameter.numel() for parameter in model.parameters()),
        sum(trainable),
        0.0
        if (work := model_work(model)) is None
        else work.per_token / (6 if len(trainable) == whole else 4),
        max(trainable, default=0),
        held.itemsize,
        int(getattr(config, "num_hidden_layers", 1)),
        int(config.hidden_size),
        int(config.vocab_size),
        _kept_bytes(model, held),
    )


class _Attention(torch.autograd.Function):
    """What fused attention keeps: queries, keys, values, outputs, and a float32 number for each query."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = torch.empty_like(query)
        ctx.save_for_backward(
            query, key, value, output, query.new_empty(query.shape[:-1], dtype=torch.float32)
        )
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError  # what a pass keeps is counted; nothing goes back


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **_: Any
) -> tuple[Tensor, None]:
    """A mask makes SDPA repeat keys and values for each group of queries."""
    groups = query.shape[1] // key.shape[1]
    output = _Attention.apply(query, key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1))
    return output.transpose(1, 2).contiguous(), None


AttentionInterface.register(_COUNTED, _attend)


class _Body(nn.Module):
    """The body alone, its parameters under their names in the model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, **arguments: Any) -> Tensor:
        hidden: Tensor = body_of(self.model)(**arguments).last_hidden_state
        return hidden


def _kept_bytes(model: nn.Module, dtype: torch.dtype) -> float | None:
    """Bytes for each token, weights and buffers left out; None where the code does not run so."""
    body = _Body(model)

    def without_numbers(tensor: Tensor) -> Tensor:
        kind = dtype if tensor.is_floating_point() else tensor.dtype
        return torch.empty(tensor.shape, dtype=kind, device="meta", requires_grad=tensor.requires_grad)

    own = {
        name: without_numbers(tensor) for name, tensor in [*body.named_parameters(), *body.named_buffers()]
    }
    kept: dict[int, torch.UntypedStorage] = {}
    known = {tensor.untyped_storage()._cdata for tensor in own.values()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in known:
            kept[storage._cdata] = storage
        return tensor

    place = torch.zeros(1, COUNTED_TOKENS, dtype=torch.int64, device="meta")
    mask = torch.zeros(1, 1, COUNTED_TOKENS, COUNTED_TOKENS, device="meta", dtype=dtype)
    arguments = {"input_ids": place, "position_ids": place, "attention_mask": mask, "use_cache": False}

    def run() -> None:
        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.enable_grad(),
            sdpa_kernel(SDPBackend.MATH),
        ):
            functional_call(body, own, (), arguments, tie_weights=True)

    try:
        _with_attention(causal_lm(model).config.get_text_config(), run)
    except (RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError):
        return None
    return sum(storage.nbytes() for storage in kept.values()) / COUNTED_TOKENS


def _with_attention(config: Any, run: Callable[[], None]) -> None:
    """With attention that is counted as a fused one, whatever the model's own is."""
    before = config._attn_implementation
    config._attn_implementation = _COUNTED
    try:
        run()
    finally:
        config._attn_implementation = before
