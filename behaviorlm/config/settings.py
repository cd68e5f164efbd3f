"""Groups of settings, each key described once: loaded, validated with all problems at once, and told."""

import difflib
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from behaviorlm.config.masking import HIDDEN, masked
from behaviorlm.config.overrides import COMMAND_LINE, with_overrides
from behaviorlm.config.written import KeyPath, Written, read_yaml
from behaviorlm.errors import ConfigError

_SECRET = re.compile(r"password|secret|(?:^|_)(?:api)?key(?:_|$)|(?:^|_)token$", re.IGNORECASE)
"""Keys, unknown ones among them, into which somebody may write a secret itself."""


class Settings(BaseModel):
    """A frozen group of settings; unknown keys are refused. Each field carries its description."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)


SettingsT = TypeVar("SettingsT", bound=Settings)

MOST_SHOWN = 200
"""Characters of a value in an error."""
_LIST, _SECTION = "; a list is written [a, b]", "; keys and values are written {key: value}"
WRITTEN = {"list_type": _LIST, "tuple_type": _LIST, "dict_type": _SECTION, "model_type": _SECTION}
"""How a configuration has what was expected, by pydantic's kind of error."""
_BRANCH = re.compile(r"(?:constrained-)?(?:int|float|str)|(?:list|dict)\[.*]")
"""What pydantic puts behind a key of several types: the one that it tried."""


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
    written = Written(dict(data or {}), {}) if path is None else read_yaml(Path(path))
    values = with_overrides(written, overrides, settings_class).values
    return validate_settings(settings_class, values, str(path or "the configuration"))


def validate_settings(
    settings_class: type[SettingsT],
    data: Mapping[str, Any],
    source: str,
    origins: Mapping[KeyPath, str] | None = None,
) -> SettingsT:
    """Validate a dictionary. `source` names it in the error, but for what a command line set, by `origins`.

    Raises ConfigError with all problems at once.
    """
    try:
        return settings_class.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_readable(error, settings_class, source, origins or {})) from None


def describe_settings(settings_class: type[Settings], prefix: str = "") -> list[KeyDescription]:
    """Every key of a settings class, nested ones by their dotted path; `[]` stands for an index of a list."""
    found = []
    for name, field in settings_class.model_fields.items():
        path, kind = f"{prefix}{name}", _type_name(field.annotation)
        found.append(KeyDescription(path, kind, _default_text(field), field.description or ""))
        nested, is_list = _nested_settings(field.annotation)
        if nested is not None:
            found += describe_settings(nested, f"{path}.{'[].' if is_list else ''}")
    return found


def json_schema(settings_class: type[Settings]) -> dict[str, Any]:
    """The JSON schema of a configuration file, for editors: every key with its description, type and default."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | settings_class.model_json_schema()


def _readable(
    error: ValidationError, settings_class: type[Settings], source: str, origins: Mapping[KeyPath, str]
) -> str:
    known = [key.path for key in describe_settings(settings_class)]
    lines, sources = [], set()
    for problem in error.errors():
        parts = tuple(str(part) for part in problem["loc"])
        if parts and _BRANCH.fullmatch(parts[-1]) and ".".join(parts[:-1]) in known:
            parts = parts[:-1]
        path, is_typed = ".".join(parts), _is_of_command_line(parts, origins)
        sources.add(COMMAND_LINE if is_typed else source)
        key = f"--{path}" if is_typed else path
        told = problem["msg"].removeprefix("Value error, ").partition(" or instance of ")[0]
        if problem["type"] == "extra_forbidden":
            value = _shortened(path, problem["input"])
            lines.append(f"  {key}: unknown key (value {value}){_nearest(path, known)}")
        elif problem["type"] == "missing":
            lines.append(f"  {key}: required, but not given")
        elif not path:
            lines.append(f"  {told}")  # it names its keys
        elif problem["type"] == "value_error" and _is_large_section(problem["input"]):
            lines.append(f"  {key}: {told}")  # it names the keys; all of the section would bury them
        else:
            how = WRITTEN.get(problem["type"], "")
            lines.append(f"  {key}: {told}; got {_shortened(path, problem['input'])}{how}")
    return "\n".join([f"{' and '.join(sorted(sources))}: {error.error_count()} problem(s)", *lines])


def _is_of_command_line(path: KeyPath, origins: Mapping[KeyPath, str]) -> bool:
    """Whether it alone set what stands there."""
    found = [origin for place, origin in origins.items() if place[: len(path)] == path]
    return bool(found) and all(origin.startswith(COMMAND_LINE) for origin in found)


def _is_large_section(value: Any) -> bool:
    return isinstance(value, Mapping) and len(repr(value)) > MOST_SHOWN


def _shortened(path: str, value: Any) -> str:
    """A value as an error shows it, but for what a secret may have been written into by mistake."""
    text = HIDDEN if _SECRET.search(path.rpartition(".")[2]) else masked(repr(value))
    return text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + "…"


def _nearest(path: str, known: list[str]) -> str:
    parent, _, last = path.rpartition(".")
    siblings = [key.rpartition(".")[2] for key in known if key.rpartition(".")[0] == parent]
    close = difflib.get_close_matches(last, siblings, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; allowed here: {', '.join(sorted(set(siblings)))}" if siblings else ""


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
