"""Typed configuration: loading YAML, overrides from a command line, and errors reported all at once."""

import difflib
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from behaviorlm.errors import ConfigError


class Settings(BaseModel):
    """A frozen group of settings; unknown keys are refused. Each field carries its description."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)


SettingsT = TypeVar("SettingsT", bound=Settings)


@dataclass(frozen=True)
class KeyDescription:
    """One key of the configuration as a user sees it."""

    path: str
    type: str
    default: str
    description: str


def load_settings(
    settings_class: type[SettingsT],
    path: str | Path | None = None,
    overrides: Sequence[str] = (),
    data: Mapping[str, Any] | None = None,
) -> SettingsT:
    """Read a YAML file, or `data`, apply `a.b.c=value` overrides and validate.

    Raises ConfigError that lists every problem with the path of the key, the value and what is allowed.
    """
    return validate_settings(
        settings_class, read_settings(path, overrides, data), str(path or "the configuration")
    )


def read_settings(
    path: str | Path | None, overrides: Sequence[str] = (), data: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The plain nested dictionary of a YAML file (or of `data`) after overrides. Raises ConfigError."""
    merged: dict[str, Any] = _plain_copy(data or {})
    if path is not None:
        merged = _plain_copy(
            _read_yaml(Path(path))
        )  # an alias (*name) must not share what an override changes
    problems = []
    for override in overrides:
        problem = _apply_override(merged, override)
        if problem:
            problems.append(problem)
    if problems:
        raise ConfigError("\n".join(problems))
    text: dict[str, Any] = _whole_text(merged, "")
    return text


def _whole_text(value: Any, key: str) -> Any:
    """The value with halves of characters joined: JSON writes an emoji as two escapes, which YAML reads apart."""
    if isinstance(value, dict):
        return {_whole_text(name, key): _whole_text(item, f"{key}.{name}") for name, item in value.items()}
    if isinstance(value, list):
        return [_whole_text(item, f"{key}.{index}") for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    try:
        return value.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise ConfigError(
            f"{key.removeprefix('.')}: {value!r} holds half of a character (an escape of \\ud800 to \\udfff without "
            "its other half); write the character itself"
        ) from None


def with_values(data: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a nested dictionary with the values of dotted keys set; an index addresses an item of a list.

    Raises ConfigError naming all keys that have no place in it.
    """
    merged: dict[str, Any] = _plain_copy(data)
    problems = [_set_value(merged, key, _plain_copy(value)) for key, value in values.items()]
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


def validate_settings(settings_class: type[SettingsT], data: Mapping[str, Any], source: str) -> SettingsT:
    """Validate a dictionary. `source` names it in the error. Raises ConfigError with all problems at once."""
    try:
        return settings_class.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_readable(error, settings_class, source)) from None


def describe_settings(settings_class: type[Settings], prefix: str = "") -> list[KeyDescription]:
    """Every key of a settings class, nested ones by their dotted path; `[]` stands for an index of a list."""
    return list(_describe(settings_class, prefix))


def parse_yaml(content: bytes, source: str) -> dict[str, Any]:
    """The keys and values of a UTF-8 YAML file that was read from `source`. Raises ConfigError naming it."""
    try:
        loaded = yaml.safe_load(content.decode("utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{source} is not readable YAML: {error}") from None
    if not isinstance(loaded, dict):
        raise ConfigError(f"{source} must hold keys and values at its top level, not {type(loaded).__name__}")
    return loaded


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"--config: there is no file {path}") from None
    except OSError as error:
        raise ConfigError(f"{path} is not readable YAML: {error}") from None
    return parse_yaml(content, str(path))


def _plain_copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain_copy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_copy(item) for item in value]
    return value


def _apply_override(merged: dict[str, Any], override: str) -> str | None:
    """Set one `a.b.c=value` in place, the value read as YAML. Returns the problem, if any."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        return f"{override!r}: an override is written key.of.the.config=value"
    try:
        value = yaml.safe_load(text) if text else None
    except yaml.YAMLError as error:
        return f"{key}: the value {text!r} is not YAML: {error}"
    return _set_value(merged, key, value)


def _set_value(merged: dict[str, Any], key: str, value: Any) -> str | None:
    """Set `a.b.c` in place (an index addresses an item of a list). Returns the problem, if any."""
    *parents, last = key.split(".")
    node: Any = merged
    for part in parents:
        if isinstance(node, list):
            if not part.isdigit() or int(part) >= len(node):
                return f"{key}: {part!r} is not an index of a list of {len(node)}"
            node = node[int(part)]
        elif isinstance(node, dict):
            if node.get(part) is None:
                node[part] = {}
            node = node[part]
        else:
            return f"{key}: {part!r} lies inside the plain value {node!r}"
    if isinstance(node, list):
        if not last.isdigit() or int(last) >= len(node):
            return f"{key}: {last!r} is not an index of a list of {len(node)}"
        node[int(last)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        return f"{key}: {last!r} lies inside the plain value {node!r}"
    return None


def _readable(error: ValidationError, settings_class: type[Settings], source: str) -> str:
    known = [key.path for key in describe_settings(settings_class)]
    lines = [f"{source}: {error.error_count()} problem(s)"]
    for problem in error.errors():
        path = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(f"  {path}: unknown key (value {problem['input']!r}){_nearest(path, known)}")
        elif problem["type"] == "missing":
            lines.append(f"  {path}: required, but not given")
        else:
            lines.append(f"  {path or '(whole)'}: {problem['msg']}; got {_shortened(problem['input'])}")
    return "\n".join(lines)


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + "…"


def _nearest(path: str, known: list[str]) -> str:
    parent, _, last = path.rpartition(".")
    siblings = [key.rpartition(".")[2] for key in known if key.rpartition(".")[0] == parent]
    close = difflib.get_close_matches(last, siblings, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; allowed here: {', '.join(sorted(set(siblings)))}" if siblings else ""


def _describe(settings_class: type[Settings], prefix: str) -> Iterator[KeyDescription]:
    for name, field in settings_class.model_fields.items():
        path = f"{prefix}{name}"
        nested, is_list = _nested_settings(field.annotation)
        yield KeyDescription(
            path, _type_name(field.annotation), _default_text(field), field.description or ""
        )
        if nested is not None:
            yield from _describe(nested, f"{path}.{'[].' if is_list else ''}")


def _nested_settings(annotation: Any) -> tuple[type[Settings] | None, bool]:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation, False
    origin = get_origin(annotation)
    for argument in get_args(annotation):
        nested, inner_list = _nested_settings(argument)
        if nested is not None:
            return nested, inner_list or origin in (list, tuple)
    return None, False


def _type_name(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is typing.Literal:
        return " | ".join(repr(value) for value in get_args(annotation))
    if origin in (Union, types.UnionType):
        return " | ".join(_type_name(argument) for argument in get_args(annotation))
    if origin is typing.Annotated:
        return _type_name(get_args(annotation)[0])
    if origin is not None:
        inner = ", ".join(
            _type_name(argument) for argument in get_args(annotation) if argument is not Ellipsis
        )
        return f"{origin.__name__}[{inner}]"
    if annotation is type(None):
        return "null"
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return "group"
    return getattr(annotation, "__name__", str(annotation))


def _default_text(field: FieldInfo) -> str:
    if field.default_factory is not None:
        value = field.default_factory()  # type: ignore[call-arg]
        return "see below" if isinstance(value, Settings) else repr(value)
    if field.default is PydanticUndefined:
        return "required"
    return "see below" if isinstance(field.default, Settings) else repr(field.default)
