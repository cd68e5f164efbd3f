"""The rooms of the house in their order, and what imports what, read from the source: for the rules and the picture."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGES = {
    "behaviorlm": "behaviorlm",
    "behaviorlm_ray": "platform/behaviorlm_ray",
    "behaviorlm_lab": "platform/behaviorlm_lab",
    "jobs": "jobs",
}
"""Product code, and where it lies below the root, the lowest first: each imports those before it only."""

ROOMS: Mapping[str, Sequence[str]] = {
    "behaviorlm": [
        "errors",
        "config",
        "files",
        "times",
        "log_files",
        "events",
        "prompts",
        "trees",
        "timelines",
        "model",
        "training",
        "metrics",
        "scoring",
        "selection",
        "baselines",
        "opponents",
        "inspection",
        "predictor",
        "service",
    ],
    "behaviorlm_ray": [
        "storage",
        "console",
        "cluster",
        "costs",
        "stages",
        "preparation",
        "tuning",
        "scoring",
        "endpoints",
        "evaluation",
        "pipeline",
        "report",
        "export",
        "tracking",
        "prediction",
        "upkeep",
        "search",
        "inspection",
        "serving",
        "commands",
    ],
    "behaviorlm_lab": ["world", "truth", "pretraining", "gemma", "study", "paper", "commands"],
}
"""The rooms of a package in their order: a room imports those before it only."""


@dataclass(frozen=True)
class Module:
    """One file. imports: (a, b) for each `from a import b` anywhere in it, (a, "") for `import a`."""

    name: str
    path: Path
    text: str
    imports: frozenset[tuple[str, str]]

    @property
    def lines(self) -> int:
        """Lines of the file."""
        return len(self.text.splitlines())


def modules(root: Path, places: Mapping[str, str] = PACKAGES) -> dict[str, Module]:
    """The modules below `root` by dotted name."""
    found = {}
    for package, place in places.items():
        for path in sorted((root / place).rglob("*.py")):
            parts = [package, *path.relative_to(root / place).with_suffix("").parts]
            name = ".".join(parts).removesuffix(".__init__")
            text = path.read_text(encoding="utf-8")
            found[name] = Module(name, path, text, _imports(text))
    return found


def edges(known: Mapping[str, Module]) -> Iterator[tuple[str, str]]:
    """(importer, imported) among the known modules; of `from a import b` b if that is a module, else a."""
    for module in known.values():
        imported = {f"{one}.{name}" if f"{one}.{name}" in known else one for one, name in module.imports}
        yield from ((module.name, name) for name in sorted(imported & known.keys() - {module.name}))


def package_of(name: str) -> str:
    """The package of a module."""
    return name.partition(".")[0]


def room_of(name: str) -> str:
    """The room of a module inside its package, known or not; "" outside of all rooms."""
    return name.split(".")[1] if "." in name and package_of(name) in ROOMS else ""


def place_of(name: str) -> int | None:
    """Where the room of a module comes in its package; None outside of all rooms."""
    room = room_of(name)
    rooms = ROOMS.get(package_of(name), ())
    return rooms.index(room) if room in rooms else None


@cache  # tests look at the same modules again and again
def _imports(text: str) -> frozenset[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found |= {(node.module, alias.name) for alias in node.names}
    return frozenset(found)
