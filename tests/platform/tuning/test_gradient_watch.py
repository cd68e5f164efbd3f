"""Gradients that are not finite are found, whoever holds them meanwhile, by few operations however many there are."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from behaviorlm_ray.tuning import gradient_watch
from behaviorlm_ray.tuning.gradient_watch import GradientWatch

CPU = torch.device("cpu")


class Counting(TorchDispatchMode):
    """Counts what is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ != "detach":
            self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@contextmanager
def counted() -> Iterator[list[str]]:
    with Counting() as mode:
        yield mode.names


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("place", [0, 6, 12])
def test_one_value_among_many_is_found_until_it_is_cleared(
    value: float, dtype: torch.dtype, place: int
) -> None:
    watch = GradientWatch(CPU)
    gradients = [torch.randn(3, 4, dtype=dtype) for _ in range(13)] + [torch.zeros(0, dtype=dtype)]
    for gradient in gradients:
        watch.add(gradient)
    assert not watch.look()
    gradients[place][1, 2] = value
    for gradient in gradients:
        watch.add(gradient)
    assert watch.look()
    watch.add(torch.ones(2))
    assert watch.look()  # of an earlier pack of the step
    watch.clear()
    assert not watch.look()


def test_the_largest_finite_numbers_pass() -> None:
    watch = GradientWatch(CPU)
    for dtype in (torch.float32, torch.bfloat16):
        watch.add(torch.full((1000,), torch.finfo(dtype).max, dtype=dtype))
    assert not watch.look()


def test_memory_that_an_engine_puts_behind_a_gradient_does_not_hide_it() -> None:
    watch = GradientWatch(CPU)
    gradient = torch.tensor([1.0, float("nan")])
    watch.add(gradient)
    gradient.data = torch.zeros(2)
    assert watch.look()


def test_many_parameters_take_no_more_operations_than_few() -> None:
    totals = []
    for count in (3, 300):
        watch = GradientWatch(CPU)
        parameters = [torch.nn.Parameter(torch.ones(2)) for _ in range(count)]
        for parameter in parameters:
            parameter.register_hook(watch.add)
        loss = sum(parameter.sum() for parameter in parameters)
        assert isinstance(loss, torch.Tensor)
        loss.backward()
        with counted() as names:
            watch.look()
        totals.append(len(names))
    assert totals[0] == totals[1] <= 10


def test_no_more_is_held_than_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradient_watch, "HELD_NUMEL", 10)
    watch = GradientWatch(CPU)
    with counted() as names:
        for _ in range(4):
            watch.add(torch.ones(6))
    assert names.count("_foreach_norm") == 2
    assert not watch.look()
