"""A resolved configuration as YAML that can be run again, with where each value comes from beside it."""

from collections.abc import Mapping
from typing import Any

import yaml

from behaviorlm.config.overrides import COMMAND_LINE
from behaviorlm.config.written import KeyPath, Written

DEFAULT = "default"
COMMENT_COLUMN = 60
"""Where the comments begin, unless a value is longer."""


def resolved_text(values: Mapping[str, Any], written: Written) -> str:
    """The values of validated settings as YAML. Each line ends with a comment: default, file:line, or command line.

    values: as `model_dump(mode="json")` gives them.
    """
    return "\n".join(_section(values, (), written, "")) + "\n"


def _section(values: Mapping[str, Any], path: KeyPath, written: Written, indent: str) -> list[str]:
    lines = []
    for name, value in values.items():
        here, key = (*path, str(name)), f"{indent}{_flow(str(name))}:"
        if isinstance(value, Mapping) and value:
            lines += [key, *_section(value, here, written, indent + "  ")]
        elif isinstance(value, list) and any(isinstance(item, Mapping) and item for item in value):
            lines += [key, *_items(value, here, written, indent + "  ")]
        else:
            lines.append(_commented(f"{key} {_flow(value)}", _origin(value, here, written)))
    return lines


def _items(values: list[Any], path: KeyPath, written: Written, indent: str) -> list[str]:
    lines = []
    for index, value in enumerate(values):
        here = (*path, str(index))
        if isinstance(value, Mapping) and value:
            first, *rest = _section(value, here, written, indent + "  ")
            lines += [f"{indent}- {first.removeprefix(indent + '  ')}", *rest]
        else:
            lines.append(_commented(f"{indent}- {_flow(value)}", _origin(value, here, written)))
    return lines


def _commented(text: str, origin: str) -> str:
    return f"{text:<{COMMENT_COLUMN}}  # {origin}"


def _origin(value: Any, path: KeyPath, written: Written) -> str:
    """Where a value was written, items that a command line set included, or the value around it; else `default`."""
    own = [written.origins[path]] if path in written.origins else []
    inside = (origin for place, origin in written.origins.items() if place[: len(path)] == path)
    found = [*own, *(origin for origin in inside if origin.startswith(COMMAND_LINE))]
    if found:
        return ", ".join(dict.fromkeys(found))
    for length in range(len(path) - 1, 0, -1):
        # a value that stands for a whole section, as the name of an algorithm: what is not that value is a default
        if path[:length] in written.origins and value == _at(written.values, path[:length]):
            return written.origins[path[:length]]
    return DEFAULT


def _at(values: Any, path: KeyPath) -> Any:
    for part in path:
        values = values[int(part)] if isinstance(values, list) else values[part]
    return values


def _flow(value: Any) -> str:
    """A value on one line, as it may stand anywhere in YAML."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_flow(str(key))}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    if isinstance(value, str) and not value.isprintable():
        return str(yaml.safe_dump(value, default_style='"', width=float("inf"))).strip()
    text: str = yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=float("inf"))
    return text.strip()[1:-1]
