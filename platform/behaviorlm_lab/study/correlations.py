"""Rank correlations within behaviors, plain and given a third quantity."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

MINIMUM_SAMPLES = 10
"""Samples that a behavior must have for a correlation of its own (our choice)."""

Values = NDArray[np.float64]


def within_behaviors(
    behavior: NDArray[np.integer],
    names: Sequence[str],
    is_anchor: NDArray[np.bool_],
    first: Values,
    second: Values,
    given: Values | None = None,
) -> dict[str, Any]:
    """Spearman's correlation of two quantities of n samples, partial if `given` is a third; all float64[n].

    behavior: int[n] indexes of names. {"all": over all samples at once, "anchor", "tail": mean over the behaviors of
    the group, weighted by their samples, "behaviors": {name: {"value", "n"}}}; None where there are too few samples or
    one of the quantities does not vary. Samples of which one quantity is not a number are left out.
    """
    known = ~np.isnan(first) & ~np.isnan(second)
    known &= True if given is None else ~np.isnan(given)

    def of(members: NDArray[np.bool_]) -> float | None:
        chosen = members & known
        return spearman(first[chosen], second[chosen], None if given is None else given[chosen])

    behaviors = {
        name: {"value": of(behavior == index), "n": int((known & (behavior == index)).sum())}
        for index, name in enumerate(names)
    }
    result: dict[str, Any] = {"all": of(np.full(len(behavior), True)), "n": int(known.sum())}
    for group, wanted in (("anchor", True), ("tail", False)):
        rows = [behaviors[name] for name, anchor in zip(names, is_anchor, strict=True) if anchor == wanted]
        known_rows = [(row["value"], row["n"]) for row in rows if row["value"] is not None]
        result[group] = None
        if known_rows:
            values, weights = np.array(known_rows, np.float64).T
            result[group] = float(np.average(values, weights=weights))
    return result | {"behaviors": behaviors}


def spearman(first: Values, second: Values, given: Values | None = None) -> float | None:
    """Spearman's correlation of float64[n], partial if `given` is a third; None for too few samples, where one does not
    vary, or where `given` has one of the orders itself.
    """
    quantities = [first, second] if given is None else [first, second, given]
    if len(first) < MINIMUM_SAMPLES or any(np.ptp(values) == 0 for values in quantities):
        return None
    table = np.corrcoef([rankdata(values) for values in quantities])
    plain = float(np.clip(table[0, 1], -1, 1))
    if given is None:
        return plain
    rest = (1 - table[0, 2] ** 2) * (1 - table[1, 2] ** 2)
    return float((plain - table[0, 2] * table[1, 2]) / np.sqrt(rest)) if rest > 1e-9 else None
