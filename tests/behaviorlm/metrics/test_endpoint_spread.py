"""How unsure the endpoint's mean is, against resamples that are written out sample by sample."""

import numpy as np
import pytest

from behaviorlm.metrics import endpoint_spread as module
from behaviorlm.metrics.endpoint import anchor_accuracy, tail_macro_recall
from behaviorlm.metrics.endpoint_spread import endpoint_spread
from behaviorlm.metrics.outcomes import Choices

IS_ANCHOR = np.array([True, True, False, False, False, False])


def written_out(
    right: np.ndarray, targets: np.ndarray, groups: np.ndarray, minimum: int, resamples: int
) -> list[float]:
    """The mean of the endpoint on each resample, its samples repeated as often as their group is drawn."""
    random, found = np.random.default_rng(3), []
    names = np.unique(groups)
    counts = np.bincount(targets[targets >= 0], minlength=6)
    counted = np.where(IS_ANCHOR | (counts >= minimum), np.arange(6), -1)
    for _ in range(resamples):
        drawn = names[random.integers(0, len(names), len(names))]
        rows = np.concatenate([np.flatnonzero(groups == name) for name in drawn])
        kept = np.append(counted, -1)[targets[rows]]
        choices = Choices(kept, np.where(right[rows], kept, -2), 6)
        both = anchor_accuracy(choices, IS_ANCHOR), tail_macro_recall(choices, IS_ANCHOR, 1)
        found.append(np.nan if None in both else sum(both) / 2)  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize(("minimum", "numbers"), [(1, 4_000_000), (4, 4_000_000), (1, 40)])
def test_it_is_what_resamples_written_out_give(
    minimum: int, numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "NUMBERS_PER_BLOCK", numbers)
    random = np.random.default_rng(minimum)
    targets = random.choice(np.arange(-1, 6), 120, p=[0.05, 0.4, 0.4, 0.09, 0.03, 0.02, 0.01]).astype(
        np.int32
    )
    groups = np.array([f"user {number}" for number in random.integers(0, 9, 120)])
    right = [random.random(120) < share for share in (0.2, 0.7)]
    found = endpoint_spread(right, targets, IS_ANCHOR, groups, minimum_targets=minimum, resamples=40, seed=3)
    expected = [written_out(one, targets, groups, minimum, 40) for one in right]
    assert np.allclose(found, expected, rtol=0, atol=1e-12, equal_nan=True) and np.ptp(found) > 0.1


def test_a_resample_without_a_part_has_no_value() -> None:
    targets = np.array([0, 0, 2], np.int32)
    found = endpoint_spread([np.ones(3, bool)], targets, IS_ANCHOR, np.arange(3), resamples=100, seed=1)[0]
    assert set(found[np.isfinite(found)]) == {1.0} and np.isnan(found).sum() > 10
