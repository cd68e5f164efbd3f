"""The balanced subset for B-Tuning: how many samples of each behavior, and which. Our choice throughout."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from behaviorlm.errors import DataError
from behaviorlm.selection.config import SelectionConfig
from behaviorlm.timelines.sample_ids import id_words, place_within, uniform_keys

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class SelectionReport:
    """What was asked for and what was there. Arrays are int64[K], in the order of the vocabulary.

    requested: samples asked for in total; selected: samples taken; shortfall: requested − selected.
    outside_band: samples taken from outside `band`, because a behavior's band held fewer than its quota.
    """

    requested: int
    selected: int
    shortfall: int
    outside_band: int
    quotas: Counts
    available: Counts

    def to_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """Plain JSON data, with `behaviors` {name: {"quota", "available"}} in the order of the vocabulary."""
        return {
            "requested": self.requested,
            "selected": self.selected,
            "shortfall": self.shortfall,
            "outside_band": self.outside_band,
            "behaviors": {
                name: {"quota": int(quota), "available": int(available)}
                for name, quota, available in zip(names, self.quotas, self.available, strict=True)
            },
        }


def requested_total(available: int, config: SelectionConfig) -> int:
    """The number of samples `config.total` asks for, of `available` training samples; at least one."""
    if isinstance(config.total, int):
        return config.total
    return max(1, math.floor(config.total * available + 0.5))


def quotas(
    counts: NDArray[np.integer], is_anchor: NDArray[np.bool_], names: Sequence[str], config: SelectionConfig
) -> Counts:
    """Samples to take of each behavior, int64[K], from counts int[K] of those available.

    Proportional to `counts^(1 − balance)`, capped at what is available and at `max_per_behavior`; what a cap
    leaves over goes to the others in proportion; rounded by largest remainder, ties by name. The sum is the
    requested total or, where the caps do not allow it, all they allow. With `anchor_share` the total is first
    split between the groups, and a group that cannot fill its share leaves it empty, so that the share holds
    as an upper bound. Raises DataError if `anchor_share` wants samples of a group that has none, and for
    empty counts.
    """
    available = np.asarray(counts, np.int64)
    if not (available.shape == is_anchor.shape == (len(names),)):
        raise DataError(
            f"selection needs one count, anchor flag and name per behavior, got {available.shape}, "
            f"{is_anchor.shape} and {len(names)}"
        )
    if available.sum() == 0:
        raise DataError("there are no training samples to select from; check the split and min_history")
    total = requested_total(int(available.sum()), config)
    if config.anchor_share is None:
        return _quotas_of_mix(available, names, total, config)
    anchor_total = math.floor(config.anchor_share * total + 0.5)
    result = np.zeros(len(names), np.int64)
    for group, members, part in (
        ("anchor", is_anchor, anchor_total),
        ("tail", ~is_anchor, total - anchor_total),
    ):
        if part == 0:
            continue
        if available[members].sum() == 0:
            raise DataError(
                f"anchor_share={config.anchor_share} asks for {part} samples of {group} behaviors, and the "
                "training "
                "samples have none; leave anchor_share unset or change the anchor threshold"
            )
        result += _quotas_of_mix(np.where(members, available, 0), names, part, config)
    return result


def select(
    sample_ids: pa.Array | pa.ChunkedArray | NDArray,
    behavior: NDArray[np.integer],
    difficulty: NDArray[np.floating],
    is_anchor: NDArray[np.bool_],
    names: Sequence[str],
    config: SelectionConfig,
) -> tuple[NDArray[np.bool_], SelectionReport]:
    """Choose the subset: bool[n] in the order of the rows, and a report.

    sample_ids: n ids of 16 bytes (Arrow fixed_size_binary(16), or uint8[n, 16]); behavior: int[n] vocabulary
    indexes; difficulty: float[n], higher is harder; is_anchor: bool[K]; names: K behaviors. The choice
    depends on ids, behaviors, difficulties, config and seed, never on the order of the rows. Ties of
    difficulty go by sample id. Where a band holds fewer samples than the quota, the nearest outside it fill
    up. Raises DataError for repeated ids, a difficulty that is not a number, or a behavior outside the
    vocabulary.
    """
    high, low = id_words(sample_ids)
    samples = len(high)
    _check_samples(high, low, behavior, difficulty, len(names))
    available = np.bincount(behavior, minlength=len(names)).astype(np.int64)
    quota = quotas(available, is_anchor, names, config)

    def place_by(*keys: NDArray) -> NDArray[np.int64]:
        return place_within(behavior, [*keys, high, low])

    chance, outside = uniform_keys(high, low, config.seed), np.zeros(samples)
    if config.within == "hard":
        place = place_by(-difficulty)
    elif config.within == "easy":
        place = place_by(difficulty)
    elif config.within == "band":
        quantile = (place_by(difficulty) + 0.5) / available[behavior]
        outside = np.maximum(0.0, np.maximum(config.band[0] - quantile, quantile - config.band[1]))
        place = place_by(outside, chance)
    elif config.within == "mixed":
        hard_quota = np.floor(config.hard_share * quota + 0.5).astype(np.int64)
        is_hard = place_by(-difficulty) < hard_quota[behavior]
        place = place_by(~is_hard, chance)
    else:
        place = place_by(chance)
    selected = place < quota[behavior]
    taken = int(selected.sum())
    requested = requested_total(samples, config)
    report = SelectionReport(
        requested=requested,
        selected=taken,
        shortfall=requested - taken,
        outside_band=int((outside[selected] > 0).sum()),
        quotas=quota,
        available=available,
    )
    return selected, report


def _check_samples(
    high: NDArray[np.uint64],
    low: NDArray[np.uint64],
    behavior: NDArray[np.integer],
    difficulty: NDArray[np.floating],
    behaviors: int,
) -> None:
    """Raise DataError for what cannot be selected from. high, low: the halves of each sample's id."""
    samples = len(high)
    if behavior.shape != (samples,) or difficulty.shape != (samples,):
        raise DataError(
            f"{samples} sample ids, but {behavior.shape} behaviors and {difficulty.shape} difficulties"
        )
    if np.isnan(difficulty).any():
        row = int(np.flatnonzero(np.isnan(difficulty))[0])
        raise DataError(f"the difficulty of sample {_hex_id(high, low, row)} (row {row}) is not a number")
    if samples and (behavior.min() < 0 or behavior.max() >= behaviors):
        row = int(np.flatnonzero((behavior < 0) | (behavior >= behaviors))[0])
        raise DataError(f"row {row}: behavior {behavior[row]} is outside the vocabulary of {behaviors}")
    order = np.lexsort((low, high))
    same = (np.diff(high[order]) == 0) & (np.diff(low[order]) == 0)
    if same.any():
        row = int(order[np.flatnonzero(same)[0]])
        raise DataError(
            f"sample id {_hex_id(high, low, row)} occurs more than once (row {row}); was a partition "
            "read twice?"
        )


def _quotas_of_mix(available: Counts, names: Sequence[str], total: int, config: SelectionConfig) -> Counts:
    caps = available if config.max_per_behavior is None else np.minimum(available, config.max_per_behavior)
    total = min(total, int(caps.sum()))
    weights = np.where(
        available > 0, np.maximum(available, 1).astype(np.float64) ** (1.0 - config.balance), 0.0
    )
    shares = np.zeros(len(names))
    is_open = caps > 0
    left = float(total)
    while is_open.any():
        proportional = left * weights / weights[is_open].sum()
        over = is_open & (proportional >= caps)
        if not over.any():
            shares[is_open] = proportional[is_open]
            break
        shares[over] = caps[over]
        left -= float(caps[over].sum())
        is_open &= ~over
    return _rounded(shares, caps, names, total)


def _rounded(shares: NDArray[np.float64], caps: Counts, names: Sequence[str], total: int) -> Counts:
    """Largest remainder, ties by name. Shares within 1e-9 of an integer are taken as that integer."""
    nearest = np.rint(shares)
    shares = np.where(np.abs(shares - nearest) < 1e-9 * np.maximum(1.0, nearest), nearest, shares)
    result = np.floor(shares).astype(np.int64)
    remainder = np.round(shares - result, 9)
    by_name = np.empty(len(names), np.int64)
    by_name[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    order = np.lexsort((by_name, -remainder))
    order = order[result[order] < caps[order]]
    result[order[: total - int(result.sum())]] += 1
    return result


def _hex_id(high: NDArray[np.uint64], low: NDArray[np.uint64], row: int) -> str:
    return f"{int(high[row]):016x}{int(low[row]):016x}"
