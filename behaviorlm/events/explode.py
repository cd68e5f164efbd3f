"""Rows that hold several events: lists of them, or several sets of columns."""

from collections.abc import Mapping
from typing import Any

from behaviorlm.events.config import EventsConfig
from behaviorlm.events.json_keys import value_at, with_value


def list_keys(config: EventsConfig) -> list[str]:
    """The keys of the lists of which each item is an event."""
    return [config.explode] if isinstance(config.explode, str) else list(config.explode or [])


def exploded(row: Mapping[str, Any], config: EventsConfig) -> list[Mapping[str, Any]]:
    """The rows of the events of a JSON object: itself, or one for each item of its lists, which run side by side.

    An empty list holds no event. Raises ValueError for what is no list and for lists of different lengths.
    """
    if config.explode is None:
        return [row]
    lists = {key: value_at(row, key) for key in list_keys(config)}
    for key, items in lists.items():
        if not isinstance(items, list):
            raise ValueError(f"the value of {key!r} is no list, as events.explode says")
    lengths = {key: len(items) for key, items in lists.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"lists of different lengths: {lengths}")
    rows: list[Mapping[str, Any]] = []
    for index in range(next(iter(lengths.values()))):
        event = row
        for key, items in lists.items():
            event = with_value(event, key, items[index])
        rows.append(event)
    return rows
