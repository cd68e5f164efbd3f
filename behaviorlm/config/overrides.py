"""What is set beside a configuration file: `a.b.c=value` of a command line, read as the type of the key asks."""

import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from behaviorlm.config.written import KeyPath, Written, parse_value, plain_copy, read_yaml, whole_text
from behaviorlm.errors import ConfigError

COMMAND_LINE = "command line"
"""Where what an override set was written."""


def read_written(
    path: str | Path | None, overrides: Sequence[str] = (), settings_class: type[BaseModel] | None = None
) -> Written:
    """A YAML file, or nothing, after overrides. Raises ConfigError."""
    written = Written({}, {}) if path is None else read_yaml(Path(path))
    return with_overrides(written, overrides, settings_class)


def with_overrides(
    written: Written, overrides: Sequence[str], settings_class: type[BaseModel] | None = None
) -> Written:
    """A copy with `a.b.c=value` set, an index addressing an item of a list.

    A key that takes text gets the value as it stands, without the quotes around it; `null` and nothing are no text.
    The value of any other key is read as YAML, and is text where it is none. settings_class: whose keys they are;
    None: of unknown types. Raises ConfigError with all problems, a key that is set twice among them.
    """
    merged = plain_copy(written.values)
    origins = dict(written.origins)
    problems = list(_set_twice(overrides))
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            problems.append(f"{override!r}: an override is written key.of.the.config=value")
            continue
        try:
            value = _value(text, list(_kinds(settings_class, key.split("."))))
        except (yaml.YAMLError, ConfigError) as error:
            problems.append(_unreadable(key, text, error))
            continue
        if problem := set_value(merged, key, value):
            problems.append(problem)
            continue
        path = _plain_path(key)
        origins = {one: origin for one, origin in origins.items() if one[: len(path)] != path}
        origins |= {(*path, *below): f"{COMMAND_LINE} (--{key})" for below in _places(value)}
    if problems:
        raise ConfigError("\n".join(problems))
    return Written(whole_text(merged), origins)


def with_values(data: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a nested dictionary with the values of dotted keys set; an index addresses an item of a list.

    Raises ConfigError naming all keys that have no place in it.
    """
    merged: dict[str, Any] = plain_copy(data)
    problems = [set_value(merged, key, plain_copy(value)) for key, value in values.items()]
    if any(problems):
        raise ConfigError("\n".join(problem for problem in problems if problem))
    return merged


def flattened(
    nested: Mapping[str, Any], is_leaf: Callable[[Any], bool] = lambda value: False, prefix: str = ""
) -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`; of two that name the same key, the later one.

    Lists, empty mappings and what `is_leaf` says of a mapping stay values.
    """
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping) and value and not is_leaf(value):
            flat |= flattened(value, is_leaf, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def set_value(merged: dict[str, Any], key: str, value: Any) -> str | None:
    """Set `a.b.c` in place (an index addresses an item of a list). Returns the problem, if any."""
    node: Any = merged
    parts = key.split(".")
    for number, part in enumerate(parts, start=1):
        place: Any = part
        if isinstance(node, list):
            if not part.isdigit() or int(part) >= len(node):
                return f"{key}: {part!r} is not an index of a list of {len(node)}"
            place = int(part)
        elif not isinstance(node, dict):
            return f"{key}: {part!r} lies inside the plain value {node!r}"
        if number == len(parts):
            node[place] = value
        elif isinstance(node, dict) and node.get(part) is None:
            node[part] = {}
        node = node[place]
    return None


def _set_twice(overrides: Sequence[str]) -> Iterator[str]:
    """Pairs of overrides of which one sets what the other sets, too, each with both places."""
    paths = [_plain_path(override.partition("=")[0]) for override in overrides]
    for later, path in enumerate(paths):
        for earlier, other in enumerate(paths[:later]):
            shared = min(len(path), len(other))
            if path[:shared] == other[:shared]:
                what = ".".join(path[:shared])
                yield (
                    f"{what} stands twice on the command line, as option {earlier + 1} (--{overrides[earlier]}) and "
                    f"option {later + 1} (--{overrides[later]}): keep one of them"
                )


def _plain_path(key: str) -> KeyPath:
    """Where a dotted key leads, an index as it is usually written."""
    return tuple(str(int(part)) if part.isdecimal() else part for part in key.split("."))


def _places(value: Any) -> Iterator[KeyPath]:
    """Where plain values and lists stand in a value, () for itself."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from ((str(key), *below) for below in _places(item))
        return
    yield ()
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from ((str(index), *below) for below in _places(item))


def _value(text: str, kinds: Sequence[Any]) -> Any:
    """The value of a key whose value may be of these kinds; none: of any."""
    if not any(_is_text(kind) for kind in kinds):
        return _as_yaml(text)
    if text in ("", "~", "null"):
        return None
    others = [kind for kind in kinds if not _is_text(kind) and kind is not type(None)]
    if text[:1] in ("'", '"') or (others and not text.startswith(("%", "*", "@"))):
        value = _as_yaml(text)
        return text if value is None or isinstance(value, dict) else value
    return text


def _as_yaml(text: str) -> Any:
    """The text read as YAML; as it stands where it is none and was not begun as a list or a section."""
    if not text:
        return None
    try:
        return parse_value(text)
    except yaml.YAMLError:
        if text.startswith(("[", "{")):
            raise
        return text


def _unreadable(key: str, text: str, error: Exception) -> str:
    if isinstance(error, ConfigError):
        return f"{key}: {error}"
    said = " ".join(str(error).split())
    return (
        f"{key}: the value {text!r} is not YAML: {said}; text in it that YAML would take for something else is written "
        "in quotes, ['*.csv', '%d']"
    )


def _is_text(kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return all(isinstance(value, str) for value in get_args(kind))
    return kind is str


def _kinds(annotation: Any, path: Sequence[str]) -> Iterator[Any]:
    """What may stand at a path below a type: classes, literals and lists; nothing for a key that is not known."""
    if annotation is None:
        return
    origin = get_origin(annotation)
    if origin is typing.Annotated:
        yield from _kinds(get_args(annotation)[0], path)
    elif origin in (Union, types.UnionType):
        for argument in get_args(annotation):
            yield from _kinds(argument, path)
    elif not path:
        yield annotation
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(path[0])
        if field is not None:
            yield from _kinds(field.annotation, path[1:])
    elif origin in (list, tuple):
        yield from _kinds(get_args(annotation)[0], path[1:])
    elif origin is dict:
        yield from _kinds(get_args(annotation)[1], path[1:])
