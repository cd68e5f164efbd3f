"""Which tests are `heavy`, told from what they reach: not part of what a developer runs all day."""

import sys
from functools import cache
from types import FunctionType, ModuleType

import pytest

OURS = {"behaviorlm", "behaviorlm_ray", "behaviorlm_lab", "benchmarks", "cluster", "jobs", "tests"}
MODELS = {"torch", "transformers", "peft", "safetensors"}
PROCESSES = {"subprocess", "multiprocessing", "pty"}
FIXTURES = {"small_base", "s3_endpoint"}


def is_heavy(item: pytest.Item) -> bool:
    """Whether a test reaches a model library, starts other processes, or asks the S3 server."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return (
        bool(FIXTURES.intersection(getattr(item, "fixturenames", ())))
        or parameters.get("root") == "s3"  # the fixture `root` asks for the server while it runs
        or (isinstance(item, pytest.Function) and _is_heavy_module(item.module.__name__))
    )


@cache
def _is_heavy_module(name: str) -> bool:
    """Whether a test module, or one of tests/ that it imports, starts processes, or anything it reaches has a model."""
    of_tests = {name} | {other for other in _imported(name) if other.partition(".")[0] == "tests"}
    starters = {_top(other) for module in of_tests for other in _imported(module)}
    return not PROCESSES.isdisjoint(starters) or not MODELS.isdisjoint(map(_top, _reached(name)))


def _reached(name: str) -> set[str]:
    """The module, all that it imports at its top, and what those of the project import at theirs."""
    reached: set[str] = set()
    waiting = {name}
    while waiting:
        new = waiting.pop()
        reached.add(new)
        if _top(new) in OURS:
            waiting |= _imported(new) - reached
    return reached


@cache
def _imported(name: str) -> frozenset[str]:
    """Modules that a module names at its top, and those that its functions and classes come from."""
    values = vars(sys.modules[name]).values() if name in sys.modules else ()
    modules = {value.__name__ for value in values if isinstance(value, ModuleType)}
    return frozenset(
        modules | {value.__module__ for value in values if isinstance(value, type | FunctionType)}
    )


def _top(name: str) -> str:
    return name.partition(".")[0]
