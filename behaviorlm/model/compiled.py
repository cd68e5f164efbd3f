"""A function compiled where that is possible: on a GPU its passes over memory become one."""

import logging
from collections.abc import Callable

import torch
from torch import Tensor

logger = logging.getLogger(__name__)


def compiled_function(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The function, compiled when it is called; from when that fails, as without a compiler, it runs as it is.

    Other sizes may be compiled anew, so any call may be the first that fails. Too little memory says nothing of that.
    """
    chosen: list[Callable[[Tensor], Tensor]] = []

    def run(argument: Tensor) -> Tensor:
        if not chosen:  # not before: it loads the compiler
            chosen.append(torch.compile(function, dynamic=True))
        if chosen[0] is function:
            return function(argument)
        try:
            return chosen[0](argument)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of the compiler's own many kinds, or of a tool that it needs
            logger.warning("model: a part cannot be compiled here and runs as it is: %s", str(error)[:300])
            chosen[0] = function
            return function(argument)

    return run
