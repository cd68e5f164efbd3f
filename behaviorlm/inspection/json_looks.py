"""What the first objects of a JSON file hold: lists of events, and lists that are no text."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from behaviorlm.errors import DataError
from behaviorlm.inspection.choices import Choice
from behaviorlm.inspection.name_words import BEHAVIOR, PERHAPS_BEHAVIOR, STEP, TIME, speaks_for
from behaviorlm.log_files.json_values import json_values, layout_of
from behaviorlm.log_files.source_files import SourceFile

MOST_OBJECTS = 200


def json_choices(text: str, file: SourceFile) -> list[Choice]:
    """The key of a list of events in each object, if there is one."""
    lengths: Counter[str] = Counter()
    objects = first_objects(text, file)
    for value in objects:
        lengths.update(key for key, inner in value.items() if are_events(inner))
    key, count = lengths.most_common(1)[0] if lengths else ("", 0)
    if count <= len(objects) / 2:
        return []
    return [
        Choice("explode", key, f"{count} of the first {len(objects)} objects hold a list of events under it")
    ]


def first_objects(text: str, file: SourceFile) -> list[dict[str, Any]]:
    """The objects at the beginning of a JSON file."""
    layout = layout_of(text.encode())
    blocks = text.encode().splitlines() if layout == "lines" else [text.encode()]
    objects: list[dict[str, Any]] = []
    for block in blocks[:MOST_OBJECTS]:
        try:
            for value in json_values([block], "objects" if layout == "lines" else layout, file):
                if isinstance(value, dict):
                    objects.append(value)
                if len(objects) >= MOST_OBJECTS:
                    return objects
        except DataError:
            continue  # a broken line, or the end of the text inside of a value
    return objects


def list_keys_of(value: Mapping[str, Any], prefix: str = "") -> set[str]:
    """Keys, with dots, under which lists stand: they are no text."""
    found = set()
    for key, inner in value.items():
        if isinstance(inner, list):
            found.add(prefix + key)
        elif isinstance(inner, Mapping):
            found |= list_keys_of(inner, f"{prefix}{key}.")
    return found


def are_events(value: Any) -> bool:
    """Whether it is a list of objects that have something like a time and a behavior."""
    if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
        return False
    return all(
        any(speaks_for(key, *words) for item in value for key in item)
        for words in ((BEHAVIOR, PERHAPS_BEHAVIOR), (TIME, STEP))
    )
