"""How sure validation is of what can be served: each option's gain over the safe choice, with its interval."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from behaviorlm.metrics.endpoint_spread import endpoint_spread
from behaviorlm.metrics.intervals import CONFIDENCE
from behaviorlm_ray.evaluation.recommendation import Option, safe_choice
from behaviorlm_ray.evaluation.samples import SampleFacts


def with_gains(
    compared: Sequence[Option],
    right: Mapping[str, NDArray[np.bool_] | None],
    facts: SampleFacts,
    minimum: int,
    *,
    resamples: int,
    seed: int,
) -> list[Option]:
    """Each that has an objective with its gain, from a paired bootstrap over groups of validation samples.

    right: which validation samples each chooses rightly, by model, bool[v]. minimum: targets from which on a tail
    behavior counts.
    """
    known = {one.model: found for one in compared if (found := right[one.model]) is not None}
    safe = safe_choice(compared)
    if safe is None or safe.objective is None:
        return list(compared)
    spread = endpoint_spread(
        list(known.values()),
        facts.validation,
        facts.vocabulary.is_anchor,
        facts.validation_groups,
        minimum_targets=minimum,
        resamples=resamples,
        seed=seed,
    )
    of_model = dict(zip(known, spread, strict=True))
    groups = len(np.unique(facts.validation_groups))
    return [
        one
        if one.objective is None
        else replace(
            one,
            gain={
                "value": one.objective - safe.objective,
                **_interval(of_model[one.model] - of_model[safe.model], groups),
            },
        )
        for one in compared
    ]


def _interval(differences: NDArray[np.float64], groups: int) -> dict[str, float | None]:
    """None with fewer than two groups, which leave nothing to resample, and where no resample has both parts."""
    known = differences[np.isfinite(differences)]
    if groups < 2 or not len(known):
        return {"low": None, "high": None}
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
    return {"low": low, "high": high}
