"""Random models in float64 throughout, so that a loss can be compared with another computation of it to 1e-9."""

import functools
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig

from tests.behaviorlm.tiny_models import COMMON, CONFIGS, tiny_model

TIED = LlamaConfig(**COMMON, tie_word_embeddings=True)


def model_of(kind: str) -> Any:
    """A random model in float64 throughout, wholly trainable or with adapters."""
    config = {"tied": TIED, "full": CONFIGS["llama"]}.get(kind, CONFIGS.get(kind, CONFIGS["llama"]))
    model: Any = tiny_model(config).double()
    if "adapter" in kind:
        where = ["q_proj", "lm_head"] if "head" in kind else "all-linear"
        torch.manual_seed(5)
        lora = LoraConfig(r=3, init_lora_weights=False, target_modules=where)
        model = get_peft_model(model, lora).double()
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = functools.partial(_norm, module)
    return model


def _norm(module: Any, states: torch.Tensor) -> torch.Tensor:
    """What transformers computes in float32 whatever its input is; Gemma's weights are differences from 1."""
    is_gemma = type(module).__name__.startswith("Gemma")
    epsilon = module.eps if is_gemma else module.variance_epsilon
    scale = torch.rsqrt(states.square().mean(-1, keepdim=True) + epsilon)
    return states * scale * (module.weight + (1.0 if is_gemma else 0.0))


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Of the parameters that have one, which are then without."""
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found
