"""How much of the hardware's peak a tuning run uses (MFU): the model's own work over what the device could do.

Counted is what the mathematics needs: each token of a tree once, attention to its ancestors, the LM head where
something is read out. What an implementation computes on top (masked pairs, repeated instructions, recomputed
activations) does not raise it. Where the work or the peak is not known for sure there is no number.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from behaviorlm.model.tree_model import causal_lm
from behaviorlm.trees.token_tree import TokenTree

BFLOAT16_PEAK_TERAFLOPS: tuple[tuple[str, float], ...] = (
    (r"\bB200\b", 2250.0),
    (r"\bH200\b", 989.0),
    (r"\bH100 NVL\b", 835.0),
    (r"\bH100 PCIe\b", 756.0),
    (r"\bH100\b", 989.0),
    (r"\bA100\b", 312.0),
    (r"\bL40S\b", 362.0),
    (r"\bL4\b", 121.0),
    (r"\bA10G\b", 70.0),
)
"""Dense bfloat16 peaks of NVIDIA's data sheets, by what the device calls itself; the first match counts."""


@dataclass(frozen=True)
class StepWork:
    """What the packs of a step hold. attention_pairs: (token, ancestor or itself) pairs; readouts: of conversations,
    sample_readouts: of samples.
    """

    tokens: int
    attention_pairs: int
    readouts: int
    sample_readouts: int = 0


@dataclass(frozen=True)
class ModelWork:
    """Floating-point operations of one forward and backward pass, by what they grow with."""

    per_token: float
    per_attention_pair: float
    per_readout: float
    per_sample_readout: float

    def of(self, work: StepWork) -> float:
        """Floating-point operations of a step."""
        return (
            work.tokens * self.per_token
            + work.attention_pairs * self.per_attention_pair
            + work.readouts * self.per_readout
            + work.sample_readouts * self.per_sample_readout
        )


def step_work(packs: Sequence[TokenTree]) -> StepWork:
    """The work of a step's packs, whoever computes them."""
    return StepWork(
        tokens=sum(len(pack) for pack in packs),
        attention_pairs=sum(int(pack.depth.sum()) + len(pack) for pack in packs),
        readouts=sum(int((pack.part > 0).sum()) for pack in packs),
        sample_readouts=sum(int((pack.part == 0).sum()) for pack in packs),
    )


def operations(work: ModelWork | None, packs: Sequence[TokenTree]) -> float:
    """Floating-point operations of a step's packs; 0 where the model's work is not known."""
    return 0.0 if work is None else work.of(step_work(packs))


def model_work(model: nn.Module, label_tokens: int | None = None) -> ModelWork | None:
    """Work of a dense transformer: a multiplication and an addition for each weight, token and product.

    A trained weight takes part in three products (forward, gradient of the input, its own gradient), a frozen one in
    two: 6 N and, with LoRA, 4 N. Attention is four products in the backward pass for two in the forward one. None for
    models that this does not describe (experts, convolutions, state spaces). Call it before parameters are sharded.
    label_tokens: tokens that the loss of samples is over; None: all.
    """
    inner = causal_lm(model)
    config = inner.config
    heads, layers = getattr(config, "num_attention_heads", None), getattr(config, "num_hidden_layers", None)
    experts = any(
        getattr(config, name, None) for name in ("num_experts", "num_local_experts", "n_routed_experts")
    )
    if not isinstance(heads, int) or not isinstance(layers, int) or experts:
        return None
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    head = inner.get_output_embeddings()
    if head is None:
        return None
    of_head = {id(parameter) for parameter in head.parameters()}
    embeddings = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, nn.Embedding)
        for parameter in module.parameters(recurse=False)
    }
    per_token = 0.0
    for parameter in model.parameters():
        if id(parameter) in of_head or id(parameter) in embeddings or parameter.dim() < 2:
            continue
        if parameter.dim() > 2:
            return None
        per_token += (6 if parameter.requires_grad else 4) * parameter.numel()
    weights = [parameter for parameter in head.parameters() if parameter.dim() == 2]
    per_readout = float(sum((6 if weight.requires_grad else 4) * weight.numel() for weight in weights))
    rows = config.vocab_size if label_tokens is None else label_tokens
    per_sample_readout = per_readout * rows / config.vocab_size
    return ModelWork(per_token, 12.0 * layers * width, per_readout, per_sample_readout)


def peak_teraflops(device_name: str, dtype: str) -> float | None:
    """The device's peak for a dtype in 10^12 operations a second; None where it is not known."""
    if not dtype.startswith("bfloat16"):
        return None  # float32 runs on other units, or not, by a setting
    for pattern, peak in BFLOAT16_PEAK_TERAFLOPS:
        if re.search(pattern, device_name):
            return peak
    return None
