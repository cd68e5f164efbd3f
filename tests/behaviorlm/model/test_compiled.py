"""What cannot be compiled runs as it is, whenever that shows."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from behaviorlm.model.compiled import compiled_function


def compiler(error: BaseException, fails_at: int, calls: list[int]) -> Callable[..., Any]:
    """One whose code fails from the n-th call on; `calls` gets the size of each argument."""

    def compiled(function: Callable[[Tensor], Tensor], **_: object) -> Callable[[Tensor], Tensor]:
        def run(argument: Tensor) -> Tensor:
            calls.append(len(argument))
            if len(calls) >= fails_at:
                raise error
            return function(argument)

        return run

    return compiled


@pytest.mark.parametrize("fails_at", [1, 2])
def test_from_the_first_failure_on_nothing_is_compiled(
    fails_at: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(torch, "compile", compiler(RuntimeError("no cc"), fails_at, calls))
    run = compiled_function(lambda x: x * 2)
    with caplog.at_level(logging.WARNING):
        for size in (1, 2, 3, 4):
            assert run(torch.ones(size)).tolist() == [2.0] * size
    assert calls == [1, 2][:fails_at]
    assert len(caplog.records) == 1 and "no cc" in caplog.text


def test_too_little_memory_is_told_and_says_nothing_of_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(torch, "compile", compiler(torch.OutOfMemoryError("full"), 2, calls))
    run = compiled_function(lambda x: x * 2)
    run(torch.ones(1))
    for size in (2, 3):
        with pytest.raises(torch.OutOfMemoryError):
            run(torch.ones(size))
    assert calls == [1, 2, 3]
