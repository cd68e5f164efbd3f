"""How predictors serve users, in numbers only: the spread of accuracy, who the badly served are like, who gains."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from behaviorlm.metrics.outcomes import Outcomes
from behaviorlm_ray.evaluation.circumstances import Circumstances, Int64

USER_SAMPLES = 5
"""Test samples from which on a user's own accuracy is looked at (our choice)."""
USER_PARTS = 5
"""Users ordered by accuracy are cut into so many parts."""
ACCURACY_BINS = 10
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


def users(found: Circumstances, of: Outcomes) -> dict[str, Any]:
    """How accuracy is spread over users (groups) with enough samples, and what sets the badly served apart."""
    number, accuracy = _by_user(found, of)
    order = np.lexsort((number, accuracy))
    parts = []
    for chosen in np.array_split(order, min(USER_PARTS, len(order))) if len(order) else []:
        members = np.isin(found.groups, number[chosen])
        parts.append(
            {
                "users": len(chosen),
                "samples": int(members.sum()),
                "lowest": float(accuracy[chosen].min()),
                "highest": float(accuracy[chosen].max()),
                "accuracy": float((of.rank[members] == 0).mean()),
                "repeats": float(found.is_repeat[members].mean()),
                "tail": float(found.is_tail[members].mean()),
                "known": float(np.median(found.known[members])),
            }
        )
    bins = np.minimum((accuracy * ACCURACY_BINS).astype(np.int64), ACCURACY_BINS - 1)
    return {
        "users": len(number),
        "left_out": int(found.groups.max(initial=-1)) + 1 - len(number),
        "minimum_samples": USER_SAMPLES,
        "quantiles": {f"{at:g}": float(np.quantile(accuracy, at)) for at in QUANTILES} if len(number) else {},
        "histogram": np.bincount(bins, minlength=ACCURACY_BINS).tolist(),
        "parts": parts,
    }


def users_against(
    found: Circumstances, outcomes: Mapping[str, Outcomes], subject: str
) -> dict[str, dict[str, int]]:
    """For how many users the subject is right more often than each other predictor, as often, or less often."""
    _, own = _by_user(found, outcomes[subject])
    result = {}
    for name, of in outcomes.items():
        if name != subject:
            _, others = _by_user(found, of)
            better, worse = int((own > others).sum()), int((own < others).sum())
            result[name] = {"better": better, "same": len(own) - better - worse, "worse": worse}
    return result


def _by_user(found: Circumstances, of: Outcomes) -> tuple[Int64, NDArray[np.float64]]:
    """Of each group with enough samples: its number, its accuracy."""
    samples = np.bincount(found.groups)
    right = np.bincount(found.groups, of.rank == 0)
    number = np.flatnonzero(samples >= USER_SAMPLES)
    return number, right[number] / samples[number]
