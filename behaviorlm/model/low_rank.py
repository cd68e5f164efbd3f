"""A linear layer with its LoRA adapter as one operation: products alone, where peft's own has passes over all outputs.

peft computes x Wᵀ + s · (x Aᵀ) Bᵀ with a product of its own for each term, a multiplication and an addition of all
outputs, and its backward pass adds the two gradients of x. Here the products themselves add the low-rank terms.
"""

from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear


class _LowRankSum(torch.autograd.Function):
    """x Wᵀ + b + s · (x Aᵀ) Bᵀ. x: [T, inputs]; W: [outputs, inputs], frozen; A: [r, inputs]; B: [outputs, r]."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scaling: float
    ) -> Tensor:
        low = x @ down.t()
        ctx.save_for_backward(x, weight, down, up, low)
        ctx.scaling = scaling
        return _added(linear(x, weight, bias), low, up.t(), scaling)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, down, up, low = ctx.saved_tensors
        of_low = gradient @ (up * ctx.scaling)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = _added(gradient @ weight, of_low, down)
        of_up = (gradient.t() @ low) * ctx.scaling
        return of_x, None, None, of_low.t() @ x, of_up, None


def _added(terms: Tensor, left: Tensor, right: Tensor, scaling: float = 1.0) -> Tensor:
    """terms + scaling · left right, in the memory of terms."""
    # Compiling loses all gradients of a function that writes into its own tensors.
    if torch.compiler.is_compiling():
        return torch.addmm(terms, left, right, alpha=scaling)
    return terms.addmm_(left, right, alpha=scaling)


class LowRankLinear(LoraLinear):
    """peft's linear layer with LoRA: the same parameters and names, and in exact arithmetic the same numbers."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.disable_adapters or self.merged or args or kwargs:
            return super().forward(x, *args, **kwargs)
        (name,) = self.active_adapters
        base = self.base_layer
        # ZeRO-3 gathers a weight for the module that holds it; and the weight gets no gradient here
        if hasattr(base.weight, "ds_id") or base.weight.requires_grad or x.dtype != base.weight.dtype:
            return super().forward(x)
        down, up = (low[name].weight.to(x.dtype) for low in (self.lora_A, self.lora_B))
        rows = x.reshape(-1, x.shape[-1])
        found = _LowRankSum.apply(rows, base.weight, base.bias, down, up, self.scaling[name])
        return found.view(*x.shape[:-1], found.shape[-1])


def in_one_operation(model: nn.Module) -> None:
    """Make each plain LoRA layer of a peft model one operation, in place; what is more than that stays as it is."""
    for module in model.modules():
        if type(module) is LoraLinear and _is_plain(module):
            module.__class__ = LowRankLinear


def _is_plain(module: LoraLinear) -> bool:
    dropouts = module.lora_dropout.values()
    return (
        type(module.base_layer) is nn.Linear
        and len(module.active_adapters) == 1
        and not module.lora_variant
        and not module.fan_in_fan_out
        and all(type(dropout) is nn.Identity for dropout in dropouts)
        and all(up.bias is None for up in module.lora_B.values())
    )
