"""Which kinds of attention take the masks of token trees on this device, how fast, and whether the result is right."""

import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from behaviorlm.model.attention import TreeAttention
from behaviorlm.model.tree_model import pack_tensors
from behaviorlm.trees.token_tree import TokenTree
from benchmarks.gpu_clock import Record, Row, forget_peak, peak_gib, rounds, spread, wait

KINDS: dict[str, SDPBackend | None] = {
    "default": None,
    "math": SDPBackend.MATH,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}
BLOCK = 128


def attention_rows(
    record: Record, packs: list[TokenTree], heads: tuple[int, int, int], device: torch.device
) -> None:
    """Forward and backward of one layer's attention over a pack: SDPA of each kind on rows and on one row, and flex.

    heads: of queries, of keys, and numbers of each. All times are of the same pack, so they compare.
    """
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    pack = max(packs, key=len)
    for layout, row_tokens in (("rows", 160), ("one row", None)):
        tensors = pack_tensors(pack, device, row_tokens=row_tokens)
        if layout == "rows" and tensors.rows is None:
            continue
        depth, end = (
            (tensors.depth[None], tensors.end[None])
            if tensors.rows is None
            else (tensors.rows.depth, tensors.rows.end)
        )
        mask = TreeAttention("full").masks(end, depth)
        case = _case(mask, end[0], heads, device, dtype)
        for name in KINDS:
            for form in ("bool", "added"):
                if form == "bool" or name in ("efficient", "cudnn"):
                    arm: Row = {"kind": name, "mask": form, "layout": layout, "shape": list(mask.shape)}
                    arm |= {"may_fail": True} if name == "flash" else {}  # it takes no masks today
                    record.attempt("attention", arm, 20, partial(_kind, case, name, form))
        if layout == "one row":
            arm = {"kind": "flex", "mask": "blocks", "layout": layout, "shape": list(mask.shape)}
            record.attempt("attention", arm, 60, partial(_flex, case))
        else:
            for name in ("efficient", "cudnn"):
                arm = {"kind": name, "mask": "bool", "layout": "ten new widths", "shape": list(mask.shape)}
                record.attempt("attention", arm, 20, partial(_new_widths, case, name))


@dataclass(frozen=True)
class _Case:
    """One layer's attention: drawn queries, keys, values and output gradient, the mask, and the right results."""

    drawn: list[Tensor]
    mask: Tensor
    end: Tensor
    heads: tuple[int, int, int]
    exact: tuple[Tensor, ...]
    device: torch.device


def _case(
    mask: Tensor, end: Tensor, heads: tuple[int, int, int], device: torch.device, dtype: torch.dtype
) -> _Case:
    drawn = _drawn(mask.shape[0], mask.shape[-1], heads, device, dtype)
    return _Case(drawn, mask, end, heads, _exact(drawn, mask, heads), device)


def _kind(case: _Case, name: str, form: str) -> Row:
    kind = KINDS[name]
    mask = case.mask if form == "bool" else _added(case.mask, case.drawn[0].dtype)
    with nullcontext() if kind is None else sdpa_kernel(kind):
        return _timed(case, lambda query, key, value: _sdpa(query, key, value, mask, case.heads))


def _flex(case: _Case) -> Row:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    length, end, device = len(case.end), case.end, case.device

    def is_ancestor(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query < end[key])

    run: Any = torch.compile(flex_attention, dynamic=False) if device.type == "cuda" else flex_attention

    def blocks() -> Any:
        return create_block_mask(is_ancestor, None, None, length, length, device=device, BLOCK_SIZE=BLOCK)

    mask = blocks()
    made = spread(rounds(device, blocks, 0.5))
    is_grouped = case.heads[0] != case.heads[1]
    row = _timed(
        case,
        lambda query, key, value: run(query, key, value, block_mask=mask, enable_gqa=is_grouped),
        has_gradients=device.type == "cuda",  # it has none on a CPU
    )
    return {**row, "mask_made_s": made["median_s"], "blocks_empty_percent": float(mask.sparsity())}


def _new_widths(case: _Case, name: str) -> Row:
    """The first forward and backward at each of ten widths, as packs of new shapes have them, and the next ones."""
    kind = KINDS[name]
    assert kind is not None
    firsts: list[float] = []
    nexts: list[float] = []
    for less in range(1, 11):
        query, key, value, gradient = (tensor[:, :, :-less].contiguous() for tensor in case.drawn)
        mask = case.mask[..., :-less, :-less].contiguous()
        for times in (firsts, nexts):
            given = [tensor.detach().requires_grad_() for tensor in (query, key, value)]
            wait(case.device)
            started = time.perf_counter()
            with sdpa_kernel(kind):
                torch.autograd.grad(_sdpa(given[0], given[1], given[2], mask, case.heads), given, gradient)
            wait(case.device)
            times.append(time.perf_counter() - started)
    return {"first_s": statistics.median(firsts), **spread(nexts)}


def _timed(
    case: _Case, attend: Callable[[Tensor, Tensor, Tensor], Tensor], has_gradients: bool = True
) -> Row:
    forget_peak(case.device)

    def run() -> tuple[Tensor, ...]:
        given = [tensor.detach().requires_grad_(has_gradients) for tensor in case.drawn[:3]]
        found = attend(given[0], given[1], given[2])
        if not has_gradients:
            return (found,)
        return (found.detach(), *torch.autograd.grad(found, given, case.drawn[3]))

    names = ("output", "query", "key", "value")
    row: Row = {
        f"error {name}": float((found.float() - right).norm() / right.norm())
        for name, found, right in zip(names, run(), case.exact, strict=False)
    }
    return {**row, "peak_gib": peak_gib(case.device), **spread(rounds(case.device, run, 0.5))}


def _sdpa(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, heads: tuple[int, int, int]) -> Tensor:
    repeated = heads[0] // heads[1]
    key, value = (tensor.repeat_interleave(repeated, dim=1) for tensor in (key, value))
    return scaled_dot_product_attention(query, key, value, attn_mask=mask)


def _drawn(
    rows: int, width: int, heads: tuple[int, int, int], device: torch.device, dtype: torch.dtype
) -> list[Tensor]:
    torch.manual_seed(0)
    of_queries, of_keys, numbers = heads
    return [
        torch.randn(rows, count, width, numbers, device=device, dtype=dtype)
        for count in (of_queries, of_keys, of_keys, of_queries)
    ]


def _exact(drawn: list[Tensor], mask: Tensor, heads: tuple[int, int, int]) -> tuple[Tensor, ...]:
    """Output and gradients in float32 on the same numbers, written out; one row at a time."""
    pieces = []
    for row in range(len(mask)):
        query, key, value = (tensor[row : row + 1].detach().float().requires_grad_() for tensor in drawn[:3])
        repeated = heads[0] // heads[1]
        keys, values = (tensor.repeat_interleave(repeated, dim=1) for tensor in (key, value))
        scores = (query @ keys.transpose(-1, -2)) / heads[2] ** 0.5
        found = torch.softmax(scores.masked_fill(~mask[row : row + 1], -torch.inf), -1) @ values
        gradients = torch.autograd.grad(found, (query, key, value), drawn[3][row : row + 1].float())
        pieces.append((found.detach(), *gradients))
    return tuple(torch.cat(parts) for parts in zip(*pieces, strict=True))


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(mask.shape, device=mask.device, dtype=dtype).masked_fill_(
        ~mask, torch.finfo(dtype).min
    )
