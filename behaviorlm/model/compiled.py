"""Compiled pieces of a model: on a GPU what is between its products is most of a step, and compiled it is fused.

The whole body would be compiled layer by layer into one graph, for minutes. Here each layer, or each of its pieces, is
compiled, and all of them share what was compiled for the first.
"""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from behaviorlm.model.lm_head import causal_lm

logger = logging.getLogger(__name__)

RECOMPILED = 64
"""How many kinds of shapes a piece may be compiled for; beyond it, it would silently run as it is."""


def compile_layers(model: nn.Module, backend: str = "inductor") -> None:
    """Compile each layer of a model that is to be trained, in place; sizes of batches stay open.

    The model's inputs ask for gradients from now on: else the first layer would be compiled apart from all others.
    """
    inner = causal_lm(model)
    inner.enable_input_require_grads()
    _compile(list(_layers(inner)), backend)


def compile_pieces(model: nn.Module, backend: str = "inductor") -> None:
    """Compile the norms and feed-forward parts of a model that keeps keys and values, in place.

    Layers are told apart by where they keep theirs, so that whole ones would be compiled one by one.
    """
    inner = causal_lm(model)
    pieces = [
        piece
        for layer in _layers(inner)
        for name, piece in layer.named_children()
        if name == "mlp" or type(piece).__name__.endswith("Norm")
    ]
    _compile(pieces, backend)


def as_it_is(model: nn.Module) -> None:
    """Undo both."""
    for module in model.modules():
        module._compiled_call_impl = None
    causal_lm(model).disable_input_require_grads()


def compiled_function(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function compiled when it is first called; where that fails, as without a compiler, it runs as it is."""
    chosen: list[Callable[..., Tensor]] = []

    def run(*arguments: Tensor) -> Tensor:
        if not chosen:
            _allow_kinds()
            compiled = torch.compile(function, dynamic=True)
            try:
                found: Tensor = compiled(*arguments)
            except Exception as error:  # of the compiler's own many kinds, or of a tool that it needs
                logger.warning(
                    "model: a part cannot be compiled here and runs as it is: %s", str(error)[:300]
                )
                chosen.append(function)
            else:
                chosen.append(compiled)
                return found
        return chosen[0](*arguments)

    return run


def _layers(inner: Any) -> Any:
    body = getattr(inner, inner.base_model_prefix)
    return getattr(body, "layers", ())


def _compile(modules: list[nn.Module], backend: str) -> None:
    _allow_kinds()
    for module in modules:
        module.compile(dynamic=True, backend=backend)


def _allow_kinds() -> None:
    import torch._dynamo

    torch._dynamo.config.recompile_limit = RECOMPILED
