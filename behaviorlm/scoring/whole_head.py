"""The LM head over its whole vocabulary, for the tokens of a trie's edges, in blocks that stay in a processor's cache.

Logits of a large vocabulary are by far the largest tensor of scoring, and of all of them only a sum and a few values
are needed. So the head's matrix is multiplied a piece at a time, and of a block only what was read of it is kept.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import linear

from behaviorlm.model.compiled import compiled_function
from behaviorlm.model.lm_head import HEAD_ROWS, adjusted_logits, causal_lm, head_logits, plain_matrix

Int64 = NDArray[np.int64]

HEAD_LOGITS = {"cpu": 1 << 21}
"""Logits that are there at a time, 8 MB; of a head that is no plain matrix whole rows, one at least. With Gemma's
262,144 tokens in bfloat16 508 rows took .60 of the CPU time of whole rows, of which the product alone is .54."""
COLUMNS = 64
"""Blocks of logits are so many columns wide, or several times so many: 218 rows of Gemma's head in blocks of 4,809 took
1.4 times the CPU time of blocks of 4,800."""
OTHER_HEAD_LOGITS = 1 << 28
"""On other devices: 1 GB, because each block there is a launch of several kernels."""


def edge_log_probabilities(model: nn.Module, states: Tensor, source: Int64, target: Int64) -> Tensor:
    """Log-probability of each edge after each prompt, over the whole vocabulary; float32 [prompts, E].

    states: [prompts, S, width]. source: int64 [E], the state at which an edge is read. target: int64 [E], its token.
    Nothing waits for the device.
    """
    head = plain_matrix(model)
    rows = HEAD_ROWS if head is not None else whole_rows(model)
    found = torch.empty(len(states), len(source), device=states.device)
    for first in range(0, len(states), rows):
        prompts = states[first : first + rows]
        step = max(1, rows // len(prompts))
        for start in range(0, states.shape[1], step):
            edges = np.flatnonzero((source >= start) & (source < start + step))
            if len(edges):
                blocks = _blocks(model, prompts[:, start : start + step], head)
                read = _read(blocks, source[edges] - start, target[edges])
                found[first : first + rows, _there(edges, found)] = read
    return found


def whole_rows(model: nn.Module) -> int:
    """How many rows of logits of the whole vocabulary may be there at a time."""
    lm = causal_lm(model)
    return max(1, _allowed(lm.device) // int(lm.config.get_text_config().vocab_size))


def columns_of_block(rows: int, allowed: int) -> int:
    """How wide a block of so many rows is, for at most `allowed` logits: a multiple of COLUMNS where that much fits."""
    columns = max(1, allowed // rows)
    return max(columns // COLUMNS * COLUMNS, min(columns, COLUMNS))


def _allowed(device: torch.device) -> int:
    return HEAD_LOGITS.get(device.type, OTHER_HEAD_LOGITS)


def _blocks(model: nn.Module, states: Tensor, head: nn.Linear | None) -> Iterator[tuple[int, Tensor]]:
    """Logits [..., columns] of the vocabulary from a token on, in the head's own numbers, block by block."""
    if head is None:
        yield 0, head_logits(model, states)
        return
    # as one matrix: a slice of a larger tensor would be multiplied in one product for each prompt
    rows = states.to(head.weight.dtype).flatten(0, 1)
    columns = columns_of_block(len(rows), _allowed(states.device))
    for first in range(0, len(head.weight), columns):
        part = slice(first, first + columns)
        logits = linear(rows, head.weight[part], None if head.bias is None else head.bias[part])
        yield first, adjusted_logits(model, logits).unflatten(0, states.shape[:2])


def _read(blocks: Iterator[tuple[int, Tensor]], source: Int64, target: Int64) -> Tensor:
    """Log-probabilities of edges from blocks of the logits [prompts, states, columns]; float32 [prompts, E]."""
    normalizer = read = None
    for first, logits in blocks:
        total = _log_sum(logits)
        if normalizer is None or read is None:
            normalizer, read = total, total.new_empty(len(logits), len(source))
        else:
            normalizer = torch.logaddexp(normalizer, total)
        here = np.flatnonzero((target >= first) & (target < first + logits.shape[-1]))
        of_state, of_token, edges = (
            _there(places, logits) for places in (source[here], target[here] - first, here)
        )
        read[:, edges] = logits[:, of_state, of_token].float()
    assert normalizer is not None and read is not None
    return read - normalizer[:, _there(source, normalizer)]


def _there(places: Int64, tensor: Tensor) -> Tensor:
    return torch.from_numpy(places).to(tensor.device, non_blocking=True)


def _log_sum(logits: Tensor) -> Tensor:
    """The logarithm of the summed exponentials of each row, in float32."""
    return _compiled_log_sum(logits) if logits.is_cuda else torch.logsumexp(logits.float(), dim=-1)


_compiled_log_sum = compiled_function(lambda logits: torch.logsumexp(logits.float(), dim=-1))
"""On a GPU one pass over the logits; step by step they would be written and read again in float32 five times."""
