"""The front of anchors against tail that a method can reach by turning its knob, and the area under it."""

from collections.abc import Mapping, Sequence
from typing import Any

Point = tuple[float, float]
"""(anchor accuracy, tail macro recall), each between 0 and 1."""


def front(points: Sequence[Point]) -> list[Point]:
    """The points that no other one beats on both, by rising anchor accuracy, each once."""
    kept: list[Point] = []
    best = float("-inf")
    for anchor, tail in sorted(set(points), reverse=True):
        if tail > best:
            kept.append((anchor, tail))
            best = tail
    return kept[::-1]


def front_area(points: Sequence[Point]) -> float:
    """Area of everything that some point is at least as good as on both, from (0, 0): 1 is perfect, 0 for no points.

    Our choice, to compare methods of which one is ahead on anchors and another on the tail.
    """
    area, reached = 0.0, 0.0
    for anchor, tail in front(points):
        area += (anchor - reached) * tail
        reached = anchor
    return area


def endpoint_area(points: Sequence[Mapping[str, Any]]) -> float | None:
    """`front_area` of {"anchor_accuracy", "tail_macro_recall"} rows; rows with a None are left out, None if all are."""
    pairs = [(point["anchor_accuracy"], point["tail_macro_recall"]) for point in points]
    known = [(anchor, tail) for anchor, tail in pairs if anchor is not None and tail is not None]
    return front_area(known) if known else None
