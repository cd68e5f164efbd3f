"""Ways in which a stored file may be damaged."""

from collections.abc import Callable

from behaviorlm_ray import storage
from behaviorlm_ray.storage import Location

Damage = Callable[[Location, Location], None]
"""Damages a file, given it and the same file of another run."""


def truncate(place: Location, other: Location) -> None:
    storage.write_replacing(place, _content(place)[:-1])


def flip_a_bit(place: Location, other: Location) -> None:
    content = bytearray(_content(place))
    content[len(content) // 2] ^= 0b100
    storage.write_replacing(place, bytes(content))


def remove(place: Location, other: Location) -> None:
    assert storage.remove_if(place, _content(place))


def take_from_another_run(place: Location, other: Location) -> None:
    assert _content(place) != _content(other)
    storage.write_replacing(place, _content(other))


DAMAGES = [truncate, flip_a_bit, remove, take_from_another_run]


def _content(place: Location) -> bytes:
    content = storage.read_bytes(place)
    assert content is not None
    return content
