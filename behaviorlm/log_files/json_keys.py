"""Keys with dots: `properties.user` is the key of that name, or the key `user` of the object under `properties`."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

MOST_DOTS = 4
"""With more dots in a key there are too many ways to read it for Arrow's schema; such rows are read one by one."""
MOST_DEPTH = 6

Way = tuple[str, ...]


class Repeated(str):
    """Stands for the values of a key that an object has more than once, and not with the same value."""


def one_value_a_key(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object from its keys and values as they are written."""
    found = dict(pairs)
    if len(found) < len(pairs):
        found |= {key: Repeated(key) for key, value in pairs if value != found[key]}
    return found


def value_at(row: Mapping[str, Any], key: str) -> Any:
    """The value under a key with or without dots; None for none. Raises ValueError where it is there in two ways, or
    twice with different values.
    """
    if "." not in key:
        return _value(row, key)
    found = _values_at(row, key)
    if len(found) > 1:
        raise ValueError(f"{key!r} is there both as a key with a dot and as a key inside of another")
    return found[0] if found else None


def with_value(row: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy of the row with another value under a key that is there."""
    if key in row or "." not in key:
        return {**row, key: value}
    for way in ways(key)[1:]:
        inner = row.get(way[0])
        if isinstance(inner, Mapping):
            return {**row, way[0]: with_value(inner, ".".join(way[1:]), value)}
    return {**row, key: value}


def keys_in(row: Mapping[str, Any], prefix: str = "", depth: int = MOST_DEPTH) -> list[str]:
    """All keys of an object, those of objects in it with dots, in order of appearance."""
    keys = []
    for key, value in row.items():
        keys.append(prefix + key)
        if isinstance(value, Mapping) and depth > 1:
            keys += keys_in(value, f"{prefix}{key}.", depth - 1)
    return keys


def ways(key: str) -> list[Way]:
    """All ways to read a key with dots, as keys one inside the other; first the key as it is."""
    parts = key.split(".")
    cuts = range(1, len(parts))
    return [
        tuple(".".join(parts[a:b]) for a, b in zip((0, *chosen), (*chosen, len(parts)), strict=True))
        for count in range(len(parts))
        for chosen in combinations(cuts, count)
    ]


def schema_of(types: Mapping[str, pa.DataType]) -> pa.Schema | None:
    """What Arrow must read so that these keys can be looked up; None where it has no schema for that."""
    tree: dict[str, Any] = {}
    for key, value_type in types.items():
        if key.count(".") > MOST_DOTS:
            return None
        for way in ways(key):
            place = tree
            for part in way[:-1]:
                place = place.setdefault(part, {})
                if not isinstance(place, dict):
                    return None
            if isinstance(place.setdefault(way[-1], value_type), dict):
                return None
    return pa.schema(_fields(tree))


def column_at(table: pa.Table, key: str) -> pa.ChunkedArray | None:
    """The values under a key of a table of `schema_of`; None where a row has it in two ways."""
    column = table[key]
    for way in ways(key)[1:]:
        inner = pc.struct_field(table[way[0]], list(way[1:]))
        if inner.null_count < len(inner):
            if column.null_count < len(column):
                if pc.any(pc.and_(pc.is_valid(column), pc.is_valid(inner))).as_py():
                    return None
                column = pc.coalesce(column, inner)
            else:
                column = inner
    return column


def column_ways(schema: pa.Schema, key: str) -> Sequence[Way]:
    """The ways in which a key is there in a schema with structs."""
    return [way for way in ways(key) if _is_there(schema, way)]


def _is_there(schema: pa.Schema, way: Way) -> bool:
    fields: Any = schema
    for part in way:
        if isinstance(fields, pa.DataType) and not pa.types.is_struct(fields):
            return False
        index = fields.get_field_index(part)
        if index < 0:
            return False
        fields = fields.field(index).type
    return True


def _value(row: Mapping[str, Any], key: str) -> Any:
    value = row.get(key)
    if isinstance(value, Repeated):
        raise ValueError(f"{key!r} is there twice with different values")
    return value


def _values_at(row: Mapping[str, Any], key: str) -> list[Any]:
    value = _value(row, key)
    found = [] if value is None else [value]
    at = key.find(".")
    while at >= 0:
        inner = _value(row, key[:at])
        if isinstance(inner, Mapping):
            found += _values_at(inner, key[at + 1 :])
        at = key.find(".", at + 1)
    return found


def _fields(tree: Mapping[str, Any]) -> list[pa.Field]:
    return [
        pa.field(name, pa.struct(_fields(inner)) if isinstance(inner, dict) else inner)
        for name, inner in tree.items()
    ]
