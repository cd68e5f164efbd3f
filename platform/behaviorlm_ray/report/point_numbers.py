"""Numbers beside the points of a scatter plot, placed where they hide nothing."""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

Bounds = NDArray[np.float64]
_Box = tuple[float, float, float, float]  # center and half sides, in pixels


def number_points(axes: Axes, points: Sequence[tuple[int, Bounds, Bounds]]) -> None:
    """Put each number beside its point, at the nearest place that hides no other point, bar or number.

    A point is (number, x, y), x and y float64[3]: value, low, high of the bar (NaN without a bar). The layout
    of the figure must be final.
    """
    centers = [axes.transData.transform((x[0], y[0])) for _, x, y in points]
    taken: list[_Box] = [(center[0], center[1], 5.0, 5.0) for center in centers]
    for _, x, y in points:
        if np.isfinite(x).all():
            taken.append(_bar(axes, (x[1], y[0]), (x[2], y[0])))
        if np.isfinite(y).all():
            taken.append(_bar(axes, (x[0], y[1]), (x[0], y[2])))
    for (number, x, y), center in zip(points, centers, strict=True):
        half_width, half_height = 4.0 * len(str(number)), 6.5
        boxes = [(center[0] + right, center[1] + up, half_width, half_height) for right, up in _places()]
        hidden = [sum(_overlap(box, other) for other in taken) for box in boxes]
        best = boxes[hidden.index(min(hidden))]
        taken.append(best)
        axes.annotate(
            str(number),
            (float(x[0]), float(y[0])),
            (best[0] - center[0], best[1] - center[1]),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=12,
            fontweight="bold",
        )


def _places() -> Iterator[tuple[float, float]]:
    for radius in (14.0, 18.0, 24.0, 32.0, 42.0):
        for angle in (45, 135, 315, 225, 0, 90, 180, 270):
            yield radius * np.cos(np.radians(angle)), radius * np.sin(np.radians(angle))


def _bar(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> _Box:
    """The box of a bar one pixel wide."""
    first, last = axes.transData.transform([start, end])
    center, half_sides = (first + last) / 2, np.abs(last - first) / 2 + 0.5
    return float(center[0]), float(center[1]), float(half_sides[0]), float(half_sides[1])


def _overlap(one: _Box, other: _Box) -> float:
    width = one[2] + other[2] - abs(one[0] - other[0])
    height = one[3] + other[3] - abs(one[1] - other[1])
    return max(width, 0.0) * max(height, 0.0)
