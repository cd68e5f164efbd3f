"""The declared contrasts over the records of a study: estimate, interval over seeds and users, Holm's correction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from behaviorlm_lab.study.intervals import MISSING, estimate
from behaviorlm_lab.study.roles import CONTRASTS, Contrast
from behaviorlm_ray.console.tables import markdown

Record = Mapping[str, Any]

FAMILY = ("3", "10")
"""Shots whose contrasts are the family, with the shipped base; all others are a look around."""
DRAWS = 10_000


@dataclass(frozen=True)
class Found:
    """A contrast at some shots and knowledge. values: of each seed; p: two-sided, as drawn; none below three seeds."""

    k: str
    contrast: Contrast
    values: tuple[float, ...]
    low: float
    high: float
    p: float | None


def found(records: Sequence[Record], contrast: Contrast) -> Found | None:
    """Of records that differ by seed alone; None where a side is missing. A draw takes seeds with replacement, and of
    each one resample of its users.
    """
    sides = [(one["roles"].get(contrast.first), one["roles"].get(contrast.second)) for one in records]
    if any(None in pair for pair in sides):
        return None
    values = np.array([first["both"] - second["both"] for first, second in sides])
    resamples = np.array([np.subtract(first["resamples"], second["resamples"]) for first, second in sides])
    random = np.random.default_rng(0)
    seeds = random.integers(0, len(values), (DRAWS, len(values)))
    drawn = resamples[seeds, random.integers(0, resamples.shape[1], seeds.shape)].mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    beyond = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    p = min(1.0, 2 * (beyond + 1) / (DRAWS + 1)) if len(values) > 2 else None
    return Found(records[0]["k"], contrast, tuple(values.tolist()), float(low), float(high), p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p of a family, in its order."""
    order = np.argsort(p_values, kind="stable")
    steps = np.array(p_values)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(value) for value in adjusted]


def contrast_table(of_kinds: Sequence[Sequence[Record]]) -> list[str]:
    """One row a contrast and kind of cell, those of one base; Holm's p where the whole family is there."""
    rows = [one for records in of_kinds for contrast in CONTRASTS if (one := found(records, contrast))]
    is_declared = all(records[0]["knowledge"] == 1 for records in of_kinds)
    family = [one for one in rows if is_declared and one.k in FAMILY and one.p is not None]
    p_of = {}
    if len(family) == len(FAMILY) * len(CONTRASTS):
        p_of = dict(zip(map(id, family), holm([one.p or 0.0 for one in family]), strict=True))
    return markdown(
        ["contrast", "k", "seeds", "difference", "over seeds and users", "over seeds (t)", "p", "Holm's p"],
        [
            [
                one.contrast.name,
                one.k,
                str(len(one.values)),
                f"{np.mean(one.values):+.3f}",
                f"[{one.low:+.3f}, {one.high:+.3f}]",
                estimate(one.values, sign=True).partition(" ")[2] if len(one.values) > 2 else MISSING,
                MISSING if one.p is None else f"{one.p:.4f}",
                f"{p_of[id(one)]:.4f}" if id(one) in p_of else MISSING,
            ]
            for one in rows
        ],
    )
