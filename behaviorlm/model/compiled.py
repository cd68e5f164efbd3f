"""A function compiled where that is possible: on a GPU its passes over memory become one."""

import logging
from collections.abc import Callable

import torch
from torch import Tensor

logger = logging.getLogger(__name__)


def compiled_function(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The function, compiled when it is first called; where that fails, as without a compiler, it runs as it is."""
    chosen: list[Callable[[Tensor], Tensor]] = []

    def run(argument: Tensor) -> Tensor:
        if not chosen:
            compiled = torch.compile(function, dynamic=True)
            try:
                found: Tensor = compiled(argument)
            except Exception as error:  # of the compiler's own many kinds, or of a tool that it needs
                logger.warning(
                    "model: a part cannot be compiled here and runs as it is: %s", str(error)[:300]
                )
                chosen.append(function)
            else:
                chosen.append(compiled)
                return found
        return chosen[0](argument)

    return run
