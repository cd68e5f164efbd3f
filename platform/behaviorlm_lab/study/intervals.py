"""Numbers over the seeds of a study: means with Student's t intervals, and how a table shows them."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.stats import t

MISSING = "–"

MINIMUM_SEEDS = 3
"""Seeds from which on there is an interval (our choice): with two, Student's t is 12.7."""


def estimate(values: Sequence[float | None], *, sign: bool = False) -> str:
    """Mean over seeds with its 95 % interval by Student's t; the single values where there are fewer than three.

    sign: with a plus before what is positive, for differences. Where a seed has no value the mean of the others, with
    their number and without an interval; a dash where none has one.
    """
    known = [value for value in values if value is not None and not math.isnan(value)]
    form = "+.3f" if sign else ".3f"
    if not known:
        return MISSING
    if len(known) < len(values):
        return f"{np.mean(known):{form}} ({len(known)} of {len(values)} seeds)"
    if len(known) < MINIMUM_SEEDS:
        return ", ".join(f"{value:{form}}" for value in known)
    mean = float(np.mean(known))
    half = float(t.ppf(0.975, len(known) - 1)) * float(np.std(known, ddof=1)) / math.sqrt(len(known))
    return f"{mean:{form}} [{mean - half:{form}}, {mean + half:{form}}]"


def mean(values: Iterable[float | None], missing: str = MISSING, digits: int = 3) -> str:
    """Mean of the values that are there, with their number if some are not."""
    all_values = list(values)
    known = [value for value in all_values if value is not None]
    if not known:
        return missing
    shown = f"{np.mean(known):.{digits}f}"
    return shown if len(known) == len(all_values) else f"{shown} ({len(known)} of {len(all_values)} seeds)"
