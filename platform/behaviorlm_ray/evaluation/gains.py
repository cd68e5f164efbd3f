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
    """Each that has an objective with its gain, from a paired bootstrap over validation's groups; the intervals
    hold together, for all options at once (max-T).

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
    asked = [one for one in compared if one.objective is not None]
    values = np.array([(one.objective or 0.0) - safe.objective for one in asked])
    differences = np.array([of_model[one.model] - of_model[safe.model] for one in asked])
    width = _half_widths(differences, len(np.unique(facts.validation_groups)))
    ends = {"value": values, "low": values - width, "high": values + width}
    gains = {
        one.model: {name: float(of[number]) if np.isfinite(of[number]) else None for name, of in ends.items()}
        for number, one in enumerate(asked)
    }
    return [replace(one, gain=gains.get(one.model)) for one in compared]


def _half_widths(differences: NDArray[np.float64], groups: int) -> NDArray[np.float64]:
    """Of intervals that hold together, float64[options]: the luckiest of many options is looked at, so each is as many
    of its standard errors wide as the option that strays most is away from its mean in 95 % of the resamples. NaN with
    fewer than two groups, which leave nothing to resample, and where no resample has both parts.

    differences: float64[options, resamples].
    """
    known = differences[:, np.isfinite(differences).all(axis=0)]
    if groups < 2 or not known.shape[1]:
        return np.full(len(differences), np.nan)
    error = known.std(axis=1)
    strays = np.abs(known - known.mean(axis=1, keepdims=True)) / np.where(error > 0, error, 1.0)[:, None]
    width: NDArray[np.float64] = error * np.quantile(strays.max(axis=0), CONFIDENCE)
    return width
