"""Floating-point operations of a model, of which MFU is the share of a device's peak.

Counted is what the mathematics needs: each token of a tree once, attention to its ancestors, the LM head where
something is read out. What an implementation computes on top (masked pairs, repeated instructions, recomputed
activations) does not raise it. Where the work is not known for sure there is no number.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from behaviorlm.model.lm_head import causal_lm
from behaviorlm.trees.token_tree import TokenTree


@dataclass(frozen=True)
class StepWork:
    """What the packs of a step hold. attention_pairs: (token, ancestor or itself) pairs; readouts: of conversations,
    sample_readouts: of samples, kept_readouts: of what holds samples to a reference.
    """

    tokens: int
    attention_pairs: int
    readouts: int
    sample_readouts: int = 0
    kept_readouts: int = 0


@dataclass(frozen=True)
class ModelWork:
    """Floating-point operations of a pass over some packs, by what they grow with."""

    per_token: float
    per_attention_pair: float
    per_readout: float
    per_sample_readout: float
    per_kept_readout: float = 0.0

    def of(self, work: StepWork) -> float:
        """Floating-point operations of a step."""
        return (
            work.tokens * self.per_token
            + work.attention_pairs * self.per_attention_pair
            + work.readouts * self.per_readout
            + work.sample_readouts * self.per_sample_readout
            + work.kept_readouts * self.per_kept_readout
        )


def step_work(packs: Sequence[TokenTree]) -> StepWork:
    """The work of a step's packs, whoever computes them."""
    return StepWork(
        tokens=sum(len(pack) for pack in packs),
        attention_pairs=sum(int(pack.depth.sum()) + len(pack) for pack in packs),
        readouts=sum(int(((pack.part > 0) & (pack.item >= 0)).sum()) for pack in packs),
        sample_readouts=sum(int((pack.part == 0).sum()) for pack in packs),
        kept_readouts=sum(int((pack.item < 0).sum()) for pack in packs),
    )


def operations(work: ModelWork | None, packs: Sequence[TokenTree]) -> float:
    """Floating-point operations of a step's packs; 0 where the model's work is not known."""
    return 0.0 if work is None else work.of(step_work(packs))


def model_work(
    model: nn.Module, label_tokens: int | None = None, kept_tokens: int = 0, *, is_trained: bool = True
) -> ModelWork | None:
    """Work of a dense transformer: a multiplication and an addition for each weight, token and product.

    A trained weight takes part in three products (forward, gradient of the input, its own gradient), a frozen one in
    two: 6 N and, with LoRA, 4 N. Attention is four products in the backward pass for two in the forward one. None for
    models that this does not describe (experts, convolutions, state spaces). Call it before parameters are sharded.
    label_tokens: tokens that the loss of samples is over; None: all. kept_tokens: of what holds samples to it.
    is_trained: False for a forward pass alone, which is one product a weight, and two of attention.
    """
    trained, frozen, of_attention = (6, 4, 12) if is_trained else (2, 2, 4)
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
        per_token += (trained if parameter.requires_grad else frozen) * parameter.numel()
    weights = [parameter for parameter in head.parameters() if parameter.dim() == 2]
    per_readout = float(
        sum((trained if weight.requires_grad else frozen) * weight.numel() for weight in weights)
    )
    per_row = per_readout / config.vocab_size
    rows = config.vocab_size if label_tokens is None else label_tokens
    return ModelWork(
        per_token, float(of_attention * layers * width), per_readout, per_row * rows, per_row * kept_tokens
    )
