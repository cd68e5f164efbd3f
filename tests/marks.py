"""Which tests are `heavy`, told from what they reach, read and not run: not part of what a developer does all day."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"
PLACES = (ROOT, ROOT / "platform")
"""Where the modules of the project lie, as in pyproject.toml."""
MODELS = {"torch", "transformers", "peft", "safetensors", "tensorboardX"}
"""The last imports torch where there is one."""
PROCESSES = {"subprocess", "multiprocessing", "pty"}
FIXTURES = {"small_base", "s3_endpoint"}


def is_heavy(item: pytest.Item) -> bool:
    """Whether a test reaches a model library, starts other processes, or asks the S3 server."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return (
        bool(FIXTURES.intersection(getattr(item, "fixturenames", ())))
        or parameters.get("root") == "s3"  # the fixture `root` asks for the server while it runs
        or is_heavy_file(item.path)
    )


@cache
def is_heavy_file(path: Path) -> bool:
    """Whether a test file, or one of tests/ that it imports, starts processes, or what it or the conftest.py of a
    folder above it reaches has a model.

    Files are read, not imported, so that nothing heavy is loaded to find out.
    """
    own = imported(path)
    starters = own.union(
        *(imported(file) for name in own if _top(name) == "tests" and (file := file_of(name)))
    )
    return not PROCESSES.isdisjoint(map(_top, starters)) or _has_model(path) or is_heavy_folder(path.parent)


@cache
def is_heavy_folder(folder: Path) -> bool:
    """Whether its conftest.py, or that of a folder above it, reaches a model library."""
    if not folder.is_relative_to(TESTS):
        return False
    own = folder / "conftest.py"
    return (own.is_file() and _has_model(own)) or is_heavy_folder(folder.parent)


def _has_model(path: Path) -> bool:
    return not MODELS.isdisjoint(map(_top, reached(path)))


def reached(path: Path) -> set[str]:
    """All modules that a file imports at its top, and what those of the project import at theirs."""
    found: set[str] = set()
    waiting = set(imported(path))
    while waiting:
        new = waiting.pop()
        found.add(new)
        file = file_of(new)
        if file:
            waiting |= imported(file) - found
    return found


@cache
def imported(path: Path) -> frozenset[str]:
    """The modules that names at the top of a file come from, also where a package hands them on."""
    return frozenset(module for _, module in names_of(path))


@cache
def names_of(path: Path) -> frozenset[tuple[str, str]]:
    """(name, module that it comes from) of the imports at the top of a file."""
    found = set()
    for statement in _top_level(ast.parse(path.read_text(encoding="utf-8")).body):
        if isinstance(statement, ast.Import):
            found |= {(alias.asname or alias.name, alias.name) for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            found |= {
                (alias.asname or alias.name, _source(statement.module, alias.name))
                for alias in statement.names
            }
    return frozenset(found)


def _source(module: str, name: str) -> str:
    """The module that `from module import name` takes something from."""
    if file_of(f"{module}.{name}"):
        return f"{module}.{name}"
    file = file_of(module)
    handed_on = dict(names_of(file)) if file and file.name == "__init__.py" else {}
    return handed_on.get(name, module)


def _top_level(statements: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run when a module is imported, those below `if` and `try` too, but for type checkers."""
    for statement in statements:
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            continue
        yield statement
        if isinstance(statement, ast.If | ast.Try | ast.With):
            yield from _top_level(statement.body)


@cache
def file_of(module: str) -> Path | None:
    """The file of a module of the project."""
    for place in PLACES:
        stem = place.joinpath(*module.split("."))
        for file in (stem.with_suffix(".py"), stem / "__init__.py"):
            if file.is_file():
                return file
    return None


def _top(name: str) -> str:
    return name.partition(".")[0]
