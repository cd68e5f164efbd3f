"""Bootstrap intervals and paired tests against resampling by hand."""

from typing import Any

import numpy as np
import pytest

from behaviorlm.errors import DataError
from behaviorlm.metrics.intervals import (
    Intervals,
    measure_outcomes,
    paired_difference,
    percentile_intervals,
    resample,
)
from behaviorlm.metrics.measures import METRICS, behavior_counts
from behaviorlm.metrics.outcomes import Outcomes, outcomes


def grouped_outcomes(
    seed: int, samples: int = 240, behaviors: int = 6
) -> tuple[Outcomes, np.ndarray, np.ndarray]:
    """Outcomes, resampling groups of unequal size, repeats."""
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=(samples, behaviors))
    targets = generator.choice(behaviors, samples, p=[0.4, 0.3, 0.15, 0.1, 0.04, 0.01])
    scores[np.arange(samples), targets] += 1
    targets[generator.random(samples) < 0.04] = -1
    groups = np.array([f"group {int(15 * generator.random() ** 2)}" for _ in range(samples)])
    return outcomes(scores, targets), groups, generator.random(samples) < 0.4


def bootstrap(*samples: Any, **drawn: Any) -> Intervals:
    return percentile_intervals(resample(*samples, **drawn))


def taken(source: Outcomes, rows: np.ndarray) -> Outcomes:
    return Outcomes(
        source.target[rows],
        source.predicted[rows],
        source.rank[rows],
        source.confidence[rows],
        source.behaviors,
    )


def defined(value: float | None) -> float:
    assert value is not None
    return value


IS_ANCHOR = np.array([True, True, False, False, False, False])


def test_the_interval_is_that_of_measuring_each_resample_of_groups_anew() -> None:
    found, groups, is_repeat = grouped_outcomes(0)
    names, index = np.unique(groups, return_inverse=True)
    generator = np.random.default_rng(5)
    measured = []
    # Macro recall of the endpoint keeps the behaviors of the data, whatever a resample holds of them.
    frequent = np.bincount(found.target[found.target >= 0], minlength=6) >= 10
    for _ in range(60):
        drawn = generator.integers(0, len(names), len(names))
        rows = np.concatenate([np.flatnonzero(index == group) for group in drawn])
        values = measure_outcomes(taken(found, rows), IS_ANCHOR, is_repeat[rows])
        targets, hits = found.target[rows], found.rank[rows] == 0
        recalls = [hits[targets == k].mean() for k in range(6) if frequent[k] and (targets == k).any()]
        values["all"]["macro_recall_at_least_10"] = float(np.mean(recalls))
        measured.append(values)
    intervals = bootstrap(found, IS_ANCHOR, groups, is_repeat, resamples=60, seed=5)
    whole = measure_outcomes(found, IS_ANCHOR, is_repeat)
    for group, of_group in intervals.items():
        for name, interval in of_group.items():
            assert interval["value"] == whole[group][name]
            if name == "macro_recall_at_least_10" and group != "all":
                continue
            of_resamples = [
                resample[group][name] for resample in measured if resample[group][name] is not None
            ]
            low, high = np.quantile(np.array(of_resamples, float), [0.025, 0.975])
            assert interval["low"] == pytest.approx(low, abs=1e-12), (group, name)
            assert interval["high"] == pytest.approx(high, abs=1e-12), (group, name)


@pytest.mark.parametrize("behaviors", [6, 40_000])
def test_counts_are_exact_whether_a_table_of_groups_by_behaviors_fits_or_not(behaviors: int) -> None:
    found, groups, is_repeat = grouped_outcomes(2)
    wide = Outcomes(found.target, found.predicted, found.rank, found.confidence, behaviors)
    index = np.unique(groups, return_inverse=True)[1]
    weights = np.random.default_rng(0).integers(0, 4, (7, index.max() + 1)).astype(float)
    counts = behavior_counts(wide, weights, index, is_repeat)
    for resampled, of_groups in enumerate(weights):
        for behavior in (0, 3, 5, behaviors):
            is_target = is_repeat & (found.target == (behavior if behavior < behaviors else -1))
            is_hit = is_target & (found.target == found.predicted)
            assert counts.targets[resampled, behavior] == of_groups[index[is_target]].sum()
            assert counts.correct[resampled, behavior] == of_groups[index[is_hit]].sum()
            is_predicted = is_repeat & (found.predicted == behavior)
            assert counts.predicted[resampled, behavior] == of_groups[index[is_predicted]].sum()


def test_the_interval_depends_on_the_seed_but_not_on_the_size_of_blocks_or_the_order_of_samples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found, groups, is_repeat = grouped_outcomes(1)
    first = bootstrap(found, IS_ANCHOR, groups, is_repeat, resamples=50, seed=1)
    assert first != bootstrap(found, IS_ANCHOR, groups, is_repeat, resamples=50, seed=2)
    order = np.random.default_rng(0).permutation(len(groups))
    shuffled = bootstrap(
        taken(found, order), IS_ANCHOR, groups[order], is_repeat[order], resamples=50, seed=1
    )
    monkeypatch.setattr("behaviorlm.metrics.intervals.NUMBERS_PER_BLOCK", 1)
    blocks = bootstrap(found, IS_ANCHOR, groups, is_repeat, resamples=50, seed=1)
    for group in first:
        for name in METRICS:
            assert shuffled[group][name] == pytest.approx(first[group][name])
            assert blocks[group][name] == pytest.approx(first[group][name])


def test_samples_of_one_group_stay_together_so_their_interval_is_wider() -> None:
    generator = np.random.default_rng(2)
    hit = np.repeat(generator.random(40) < 0.5, 25)  # all samples of a group are right, or none
    found = outcomes(np.eye(2)[np.where(hit, 0, 1)], np.zeros(1000, int))
    anchors = np.array([True, False])
    grouped = bootstrap(found, anchors, np.repeat(np.arange(40), 25))["all"]["accuracy"]
    single = bootstrap(found, anchors, np.arange(1000))["all"]["accuracy"]
    width = [defined(interval["high"]) - defined(interval["low"]) for interval in (grouped, single)]
    assert width[0] > 3 * width[1]
    # Textbook widths: 2 x 1.96 standard errors of 40 and of 1000 independent draws.
    assert width[0] == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 40), rel=0.2)
    assert width[1] == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 1000), rel=0.2)


def test_intervals_of_accuracy_cover_the_truth_about_as_often_as_they_say() -> None:
    generator = np.random.default_rng(3)
    covered = 0
    for trial in range(150):
        found = outcomes(np.eye(2)[(generator.random(150) < 0.4).astype(int)], np.zeros(150, int))
        interval = bootstrap(found, np.array([True, False]), np.arange(150), resamples=200, seed=trial)[
            "all"
        ]["accuracy"]
        covered += defined(interval["low"]) <= 0.6 <= defined(interval["high"])
    assert 0.88 <= covered / 150 <= 0.99


def test_a_paired_difference_resamples_both_models_alike_and_swaps_its_sign() -> None:
    found, groups, _ = grouped_outcomes(4)
    once = resample(found, IS_ANCHOR, groups, resamples=100)
    same = paired_difference(once, once)["all"]["accuracy"]
    assert same == {"value": 0.0, "low": 0.0, "high": 0.0, "p": 1.0}
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(len(groups), 6))
    worse = outcomes(scores, found.target)
    both = [resample(one, IS_ANCHOR, groups, resamples=100, seed=3) for one in (found, worse)]
    forth, back = paired_difference(*both), paired_difference(*reversed(both))
    for group in ("all", "anchor", "tail"):
        for name in ("accuracy", "mrr", "macro_f1"):
            assert forth[group][name]["value"] == pytest.approx(-defined(back[group][name]["value"]))
            assert forth[group][name]["low"] == pytest.approx(-defined(back[group][name]["high"]))
            assert forth[group][name]["p"] == back[group][name]["p"]
    assert forth["all"]["accuracy"]["p"] == pytest.approx(2 / 101)


def test_a_paired_difference_of_equal_models_is_significant_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(8)
    significant = 0
    for trial in range(150):
        found = paired_difference(
            *(
                resample(
                    outcomes(np.eye(2)[(generator.random(120) < 0.5).astype(int)], np.zeros(120, int)),
                    np.array([True, False]),
                    np.arange(120),
                    resamples=200,
                    seed=trial,
                )
                for _ in range(2)
            )
        )
        significant += defined(found["all"]["accuracy"]["p"]) < 0.05
    assert significant / 150 <= 0.12


def test_one_group_leaves_no_interval_and_other_samples_are_refused() -> None:
    found, groups, _ = grouped_outcomes(6)
    alone = bootstrap(found, IS_ANCHOR, np.zeros(len(groups)), resamples=20)["all"]["accuracy"]
    assert alone["value"] is not None and alone["low"] is None and alone["high"] is None
    other, _, _ = grouped_outcomes(7)
    both = [resample(one, IS_ANCHOR, groups, resamples=20) for one in (found, other)]
    with pytest.raises(DataError, match="same samples"):
        paired_difference(*both)
    with pytest.raises(DataError, match="resampling groups"):
        bootstrap(found, IS_ANCHOR, groups[1:])
    with pytest.raises(DataError, match="no samples"):
        bootstrap(outcomes(np.zeros((0, 6)), np.zeros(0, int)), IS_ANCHOR, np.zeros(0))
