"""A configuration as somebody wrote it: the values of a YAML file, and the line of each. Nothing may stand twice."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from behaviorlm.errors import ConfigError

KeyPath = tuple[str, ...]
"""Where a value stands: keys, and indexes of lists as text."""

MERGE = "tag:yaml.org,2002:merge"
MOST_VALUES = 100_000
"""A file with more, its aliases (*name) written out, is no configuration."""


@dataclass(frozen=True)
class Written:
    """Values, not validated, and where each plain value and each list was written, such as `my.yaml:12`."""

    values: dict[str, Any]
    origins: Mapping[KeyPath, str]


class _Loader(yaml.SafeLoader):
    """Safe YAML in which 1:30 and 2024-05-31 are text and 010 is no octal number: nobody here means those."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _first, _resolvers in _Loader.yaml_implicit_resolvers.items():
    _Loader.yaml_implicit_resolvers[_first] = [
        (tag, re.compile(rf"(?![-+]?0[0-9_])(?!.*:){pattern.pattern}", re.VERBOSE))
        if tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
        else (tag, pattern)
        for tag, pattern in _resolvers
    ]


def read_yaml(path: Path) -> Written:
    """A local YAML file. Raises ConfigError."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"--config: there is no file {path}") from None
    except OSError as error:
        raise ConfigError(f"{path} is not readable YAML: {error}") from None
    return parse_yaml(content, str(path))


def parse_yaml(content: bytes, source: str) -> Written:
    """The keys and values of a UTF-8 YAML file that was read from `source`.

    Raises ConfigError naming it; for what stands twice, with both lines, all at once.
    """
    try:
        root, values = _composed(content.decode("utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{source} is not readable YAML: {error}") from None
    if not isinstance(root, yaml.MappingNode):
        kind = "NoneType" if root is None else type(values).__name__
        raise ConfigError(f"{source} must hold keys and values at its top level, not {kind}")
    if problems := list(_repeated(root)):
        raise ConfigError("\n".join(f"{source}: {problem}" for problem in problems))
    origins = {path: f"{source}:{line}" for path, line in _lines(root)}
    return Written(whole_text(plain_copy(values)), origins)


def parse_value(text: str) -> Any:
    """One value written as YAML, as on a command line. Raises yaml.YAMLError, and ConfigError for what stands twice."""
    try:
        root, value = _composed(text)
    except ValueError as error:
        raise yaml.YAMLError(str(error)) from None
    if root is not None and (problems := list(_repeated(root, "character"))):
        raise ConfigError("; ".join(problems))
    return plain_copy(value)


def plain_copy(value: Any) -> Any:
    """A copy that shares nothing: an alias (*name) must not share what an override changes."""
    if isinstance(value, Mapping):
        return {key: plain_copy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_copy(item) for item in value]
    return value


def whole_text(value: Any, key: str = "") -> Any:
    """The value with halves of characters joined: JSON writes an emoji as two escapes, which YAML reads apart."""
    if isinstance(value, dict):
        return {whole_text(name, key): whole_text(item, f"{key}.{name}") for name, item in value.items()}
    if isinstance(value, list):
        return [whole_text(item, f"{key}.{index}") for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    try:
        return value.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise ConfigError(
            f"{key.removeprefix('.')}: {value!r} holds half of a character (an escape of \\ud800 to \\udfff without "
            "its other half); write the character itself"
        ) from None


def _composed(text: str) -> tuple[yaml.Node | None, Any]:
    """The one document of a text as nodes and as values. Raises yaml.YAMLError, and ValueError for an endless one."""
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None, None
        _check_size(root)
        # Building values merges mappings into the nodes, whose lines are still needed.
        composed = _Loader(text)
        try:
            return root, composed.get_single_data()
        finally:
            composed.dispose()
    finally:
        loader.dispose()


def _check_size(root: yaml.Node) -> None:
    """Raise ValueError for aliases that lead back to themselves or multiply without end."""
    waiting: list[tuple[yaml.Node, frozenset[int]]] = [(root, frozenset())]
    seen = 0
    while waiting:
        node, above = waiting.pop()
        seen += 1
        if id(node) in above:
            raise ValueError(
                f"line {node.start_mark.line + 1}: a value that holds itself by an alias (*name)"
            )
        if seen > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES:,} values once its aliases (*name) are written out")
        if isinstance(node, yaml.MappingNode):
            waiting += [(each, above | {id(node)}) for pair in node.value for each in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(each, above | {id(node)}) for each in node.value]


def _repeated(root: yaml.Node, unit: str = "line") -> Iterator[str]:
    """What stands twice, each with both places: lines of a file, or characters of one line.

    Keys with the same dotted path are the same: `a.b` is `b` in the section `a`, where a section may hold either.
    """
    known: dict[str, yaml.Node] = {}
    waiting: list[tuple[yaml.Node, str]] = [(root, "")]
    while waiting:
        node, path = waiting.pop()
        if isinstance(node, yaml.SequenceNode):
            waiting += [(item, f"{path}{index}.") for index, item in reversed([*enumerate(node.value)])]
        if not isinstance(node, yaml.MappingNode):
            continue
        for key, _ in node.value:
            name = path + _name(key)
            if name in known:
                first, second = sorted([_place(known[name], unit), _place(key, unit)])
                yield f"{name} stands twice, in {unit} {first} and in {unit} {second}: keep one of them"
            known.setdefault(name, key)
        waiting += [(value, f"{path}{_name(key)}.") for key, value in reversed(node.value)]
        yield from _repeated_by_merging(node, path, unit)


def _repeated_by_merging(node: yaml.MappingNode, path: str, unit: str) -> Iterator[str]:
    """What << brings twice, and sections that it brings and that the mapping's own replace as a whole.

    A single value of the mapping's own replaces one that << brings: that is what << is for.
    """
    merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
    for mapping in _merged(node):
        for name, (key, value) in _pairs(mapping).items():
            if name in merged and merged[name][0] is not key:
                yield (
                    f"{path}{name} comes twice by << (merge), from {unit} {_place(merged[name][0], unit)} and "
                    f"{unit} {_place(key, unit)}: merge one of them only"
                )
            merged.setdefault(name, (key, value))
    own = {_name(key): (key, value) for key, value in node.value if key.tag != MERGE}
    for name in own.keys() & merged.keys():
        (first, lost), (second, kept) = merged[name], own[name]
        if not isinstance(lost, yaml.MappingNode) or not isinstance(kept, yaml.MappingNode):
            continue
        if _pairs(lost).keys() - _pairs(kept).keys():
            yield (
                f"{path}{name} stands twice, by << (merge) from {unit} {_place(first, unit)} and in "
                f"{unit} {_place(second, unit)}, which drops all of the first: merge inside it too, or keep one"
            )


def _place(node: yaml.Node, unit: str) -> int:
    mark = node.start_mark
    return 1 + (mark.line if unit == "line" else mark.column)


def _lines(root: yaml.MappingNode) -> Iterator[tuple[KeyPath, int]]:
    """The line of each plain value and each list, aliases written out."""
    waiting: list[tuple[yaml.Node, KeyPath, int]] = [(root, (), 1)]
    while waiting:
        node, path, line = waiting.pop()
        if isinstance(node, yaml.MappingNode):
            waiting += [
                (value, (*path, name), key.start_mark.line + 1) for name, (key, value) in _pairs(node).items()
            ]
            continue
        yield path, line
        if isinstance(node, yaml.SequenceNode):
            waiting += [
                (item, (*path, str(index)), item.start_mark.line + 1) for index, item in enumerate(node.value)
            ]


def _pairs(node: yaml.MappingNode) -> dict[str, tuple[yaml.Node, yaml.Node]]:
    """Key and value by name, merged ones included, a mapping's own before those."""
    found: dict[str, tuple[yaml.Node, yaml.Node]] = {}
    for mapping in reversed(_merged(node)):
        found |= _pairs(mapping)
    return found | {_name(key): (key, value) for key, value in node.value if key.tag != MERGE}


def _merged(node: yaml.MappingNode) -> list[yaml.MappingNode]:
    """The mappings that << names, in its order."""
    named = [value for key, value in node.value if key.tag == MERGE]
    listed = [
        item for value in named for item in (value.value if isinstance(value, yaml.SequenceNode) else [value])
    ]
    return [item for item in listed if isinstance(item, yaml.MappingNode)]


def _name(key: yaml.Node) -> str:
    """A key as one that means the same is told: `epochs`, "epochs" and 'epochs' are one."""
    if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:str":
        return str(key.value)
    return str(yaml.safe_load(key.value)) if key.tag == "tag:yaml.org,2002:bool" else str(key.value)
