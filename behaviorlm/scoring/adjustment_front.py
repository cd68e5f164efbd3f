"""The primary endpoint along a model's front: at every strength of logit adjustment, on the draw and in expectation."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from behaviorlm.metrics.endpoint import Endpoint, endpoint
from behaviorlm.metrics.front import endpoint_area
from behaviorlm.metrics.outcomes import Choices
from behaviorlm.scoring.config import FRONT_TAUS


@dataclass(frozen=True)
class AdjustmentFront:
    """The endpoint of one model at every tau of FRONT_TAUS.

    expected: that of the same choices in expectation under the truth; None where it is not known.
    """

    points: tuple[Endpoint, ...]
    expected: tuple[Endpoint, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """{"points": [{"tau", "anchor_accuracy", "tail_macro_recall", "expected"}], "area", "expected_area"}.

        `expected`: {"anchor_accuracy", "tail_macro_recall"} or None. A number is None where nothing counts.
        """
        expected = [None] * len(self.points) if self.expected is None else [*map(asdict, self.expected)]
        points = [
            {"tau": tau, **asdict(point), "expected": of_point}
            for tau, point, of_point in zip(FRONT_TAUS, self.points, expected, strict=True)
        ]
        return {
            "points": points,
            "area": endpoint_area(points),
            "expected_area": endpoint_area([of_point for of_point in expected if of_point is not None]),
        }


def adjustment_front(
    choices: NDArray[np.int32], targets: NDArray[np.int32], is_anchor: NDArray[np.bool_]
) -> AdjustmentFront:
    """The front of the choices at every tau of FRONT_TAUS, int32[n, taus], for targets int32[n]."""
    points = [endpoint(Choices(targets, of_tau, len(is_anchor)), is_anchor) for of_tau in choices.T]
    return AdjustmentFront(tuple(points))
