"""The front and its area, against a raster of the unit square and a search for the points that are beaten."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behaviorlm.metrics.front import endpoint_area, front, front_area

GRID = 20
points = st.lists(st.tuples(*[st.integers(0, GRID).map(lambda value: value / GRID)] * 2), max_size=12)


@given(points)
def test_the_area_is_that_of_all_cells_below_some_point(chosen: list[tuple[float, float]]) -> None:
    corner = (np.arange(GRID) + 0.5) / GRID
    covered = np.zeros((GRID, GRID), dtype=bool)
    for anchor, tail in chosen:
        covered |= (corner[:, None] < anchor) & (corner[None, :] < tail)
    assert np.isclose(front_area(chosen), covered.mean(), rtol=0, atol=1e-12)


@given(points)
def test_the_front_holds_each_point_that_none_beats(chosen: list[tuple[float, float]]) -> None:
    unbeaten = {
        one for one in chosen if not any(a >= one[0] and b >= one[1] and (a, b) != one for a, b in chosen)
    }
    assert front(chosen) == sorted(unbeaten)


def test_points_that_were_not_measured_are_left_out_of_the_area() -> None:
    rows = [
        {"anchor_accuracy": anchor, "tail_macro_recall": tail}
        for anchor, tail in ((0.5, 0.2), (0.9, None), (0.4, 0.3), (None, 0.9))
    ]
    assert endpoint_area(rows) == pytest.approx(0.4 * 0.3 + 0.1 * 0.2)
    assert endpoint_area(rows[1:2]) is None and endpoint_area([]) is None
