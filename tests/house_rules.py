"""The rules of the house, each a function over a folder tree that returns what breaks it: tests plant offenders."""

import ast
import statistics
import tomllib
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path

from docs.rooms import PACKAGES, Module, edges, modules, package_of, place_of, room_of

IMPORTERS = {**PACKAGES, "cluster": "cluster"}
"""Who may be the one that a module is there for; tests and benchmarks are not."""


def imports_of_later_packages(root: Path) -> set[str]:
    """ "importer -> imported" where a package imports one above it."""
    order = list(PACKAGES)
    return {
        f"{one} -> {other}"
        for one, other in edges(modules(root))
        if order.index(package_of(other)) > order.index(package_of(one))
    }


def imports_of_later_rooms(root: Path) -> set[str]:
    """ "importer -> imported" where a room imports a later one of its package; "name: no room" for an unknown room."""
    known = modules(root)
    wrong = {f"{name}: no room" for name in known if room_of(name) and place_of(name) is None}
    for one, other in edges(known):
        place, later = place_of(one), place_of(other)
        if package_of(one) == package_of(other) and place is not None and later is not None and later > place:
            wrong.add(f"{one} -> {other}")
    return wrong


def circles(root: Path) -> set[str]:
    """ "a b …", sorted: modules that reach each other by imports, those inside functions included."""
    known = modules(root)
    following: dict[str, set[str]] = {name: set() for name in known}
    for one, other in edges(known):
        following[one].add(other)

    @cache
    def reached(start: str) -> frozenset[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            new = following[waiting.pop()] - seen
            seen |= new
            waiting += new
        return frozenset(seen)

    groups = (
        {other for other in reached(name) if name in reached(other)}
        for name in known
        if name in reached(name)
    )
    return {" ".join(sorted(group)) for group in groups}


def modules_without_importer(root: Path, exceptions: Collection[str] = ()) -> set[str]:
    """Modules that no other imports and that nobody starts: neither jobs, `__main__`, entry points nor `exceptions`."""
    known = modules(root, IMPORTERS)
    imported = {other for _, other in edges(known)}
    started = {name for name in known if name.endswith("__main__") or package_of(name) in ("jobs", "cluster")}
    left = known.keys() - imported - started - set(exceptions) - _entry_points(root)
    return {name for name in left if known[name].path.name != "__init__.py"}


def files_longer_than(root: Path, lines: int) -> set[str]:
    """Files of product code with more lines than that."""
    return {_shown(module, root) for module in modules(root).values() if module.lines > lines}


def median_of_lengths(root: Path) -> float:
    """Median number of lines of the files of product code, those that hold no more than a docstring left out."""
    return statistics.median(length for module in modules(root).values() if (length := module.lines) > 3)


def functions_longer_than(root: Path, lines: int) -> set[str]:
    """ "file: function" with more lines than that, from `def` to its end."""
    return {
        f"{_shown(module, root)}: {node.name}"
        for module, node in _functions(root)
        if (node.end_lineno or 0) - node.lineno + 1 > lines
    }


def functions_with_more_parameters_than(root: Path, parameters: int) -> set[str]:
    """ "file: function" with more parameters than that; `self` and `cls` do not count."""
    found = set()
    for module, node in _functions(root):
        listed = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        if len([each for each in listed if each.arg not in ("self", "cls")]) > parameters:
            found.add(f"{_shown(module, root)}: {node.name}")
    return found


def _functions(root: Path) -> Iterator[tuple[Module, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for module in modules(root).values():
        yield from ((module, node) for node in _functions_of(module.text))


@cache
def _functions_of(text: str) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    nodes = ast.walk(ast.parse(text))
    return [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def _entry_points(root: Path) -> set[str]:
    path = root / "pyproject.toml"
    if not path.is_file():
        return set()
    project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    groups = [project.get("scripts", {}), *project.get("entry-points", {}).values()]
    return {place.partition(":")[0] for group in groups for place in group.values()}


def _shown(module: Module, root: Path) -> str:
    return module.path.relative_to(root).as_posix()
