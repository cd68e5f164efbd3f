"""Metrics against scikit-learn, scipy and plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import rankdata
from sklearn.metrics import ndcg_score, precision_recall_fscore_support

from behaviorlm.errors import DataError
from behaviorlm.metrics.intervals import measure_outcomes
from behaviorlm.metrics.measures import METRICS
from behaviorlm.metrics.outcomes import outcomes
from behaviorlm.metrics.tables import per_behavior_table, reliability


def random_samples(
    seed: int, samples: int = 400, behaviors: int = 12
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Label scores with ties, long-tailed targets some of which are unseen, anchors, repeats."""
    generator = np.random.default_rng(seed)
    scores = np.round(generator.normal(size=(samples, behaviors)), 1).astype(np.float32)
    shares = 1.0 / np.arange(1, behaviors + 1) ** 1.5
    targets = generator.choice(behaviors, samples, p=shares / shares.sum()).astype(np.int32)
    scores[np.arange(samples), targets] += 1.5
    targets[generator.random(samples) < 0.05] = -1
    return scores, targets, np.arange(behaviors) < 3, generator.random(samples) < 0.3


def ranks_by_sorting(scores: np.ndarray, targets: np.ndarray) -> list[int | None]:
    ranks: list[int | None] = []
    for row, target in zip(scores, targets, strict=True):
        order = sorted(range(len(row)), key=lambda behavior: (-row[behavior], behavior))
        ranks.append(order.index(target) if target >= 0 else None)
    return ranks


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("group", ["all", "anchor", "tail"])
def test_precision_recall_f1_equal_scikit_learn_over_the_behaviors_of_the_group(
    seed: int, group: str
) -> None:
    scores, targets, is_anchor, _ = random_samples(seed)
    measured = measure_outcomes(outcomes(scores, targets), is_anchor)[group]
    unseen = scores.shape[1]
    truth = np.where(targets < 0, unseen, targets)
    in_group = {"all": np.ones(unseen + 1, bool), "anchor": np.append(is_anchor, False)}
    in_group["tail"] = ~in_group["anchor"]
    labels = [label for label in np.unique(truth) if in_group[group][label]]
    for average in ("weighted", "macro"):
        expected = precision_recall_fscore_support(
            truth, scores.argmax(axis=1), labels=labels, average=average, zero_division=0
        )
        for name, value in zip(("precision", "recall", "f1"), expected[:3], strict=True):
            assert measured[f"{average}_{name}"] == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_ranking_metrics_equal_a_sort_of_each_row_and_unseen_targets_score_nothing(seed: int) -> None:
    scores, targets, is_anchor, is_repeat = random_samples(seed)
    measured = measure_outcomes(outcomes(scores, targets), is_anchor, is_repeat)
    ranks = ranks_by_sorting(scores, targets)
    target_is_anchor = np.append(is_anchor, False)[targets]
    members = {
        "all": np.ones(len(targets), bool),
        "anchor": target_is_anchor,
        "tail": ~target_is_anchor,
        "repeats": is_repeat,
        "changes": ~is_repeat,
    }
    assert set(measured) == set(members)
    for group, chosen in members.items():
        of_group = [rank for rank, is_in in zip(ranks, chosen, strict=True) if is_in]
        expected = {
            "accuracy": np.mean([rank == 0 for rank in of_group]),
            "mrr": np.mean([0 if rank is None else 1 / (rank + 1) for rank in of_group]),
            "recall_at_5": np.mean([rank is not None and rank < 5 for rank in of_group]),
            "ndcg_at_3": np.mean(
                [1 / np.log2(rank + 2) if rank is not None and rank < 3 else 0 for rank in of_group]
            ),
        }
        for name, value in expected.items():
            assert measured[group][name] == pytest.approx(value, abs=1e-12), (group, name)


def test_ndcg_and_mrr_equal_scikit_learn_and_scipy_where_nothing_is_tied() -> None:
    generator = np.random.default_rng(7)
    scores = generator.normal(size=(300, 9))
    targets = generator.integers(0, 9, 300)
    measured = measure_outcomes(outcomes(scores, targets), np.arange(9) < 2)["all"]
    relevance = np.eye(9)[targets]
    for k in (3, 5):
        assert measured[f"ndcg_at_{k}"] == pytest.approx(ndcg_score(relevance, scores, k=k))
    places = rankdata(-scores, axis=1)[np.arange(300), targets]
    assert measured["mrr"] == pytest.approx((1 / places).mean())


def test_recall_at_least_10_leaves_out_behaviors_with_nine_targets_and_the_unseen() -> None:
    # Behavior 0: 10 targets, 5 of them found; 1: 9 targets, all found; 20 unseen targets.
    targets = np.array([0] * 10 + [1] * 9 + [-1] * 20)
    predicted = np.array([0] * 5 + [1] * 5 + [1] * 9 + [0] * 20)
    measured = measure_outcomes(outcomes(np.eye(3)[predicted], targets), np.array([False, False, True]))
    assert measured["tail"]["macro_recall_at_least_10"] == pytest.approx(0.5)
    assert measured["tail"]["macro_recall"] == pytest.approx((0.5 + 1.0 + 0.0) / 3)
    assert measured["tail"]["accuracy"] == pytest.approx(14 / 39)
    assert all(value is None for value in measured["anchor"].values())


def test_calibration_error_equals_a_loop_over_15_bins_of_the_normalized_confidence() -> None:
    scores, targets, is_anchor, _ = random_samples(11)
    scores = scores * 3 - 40  # far from normalized
    probabilities = softmax(scores.astype(np.float64), axis=1)
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == targets
    expected = 0.0
    for index in range(15):
        inside = (confidence > index / 15) & (confidence <= (index + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(confidence[inside].mean() - correct[inside].mean())
    measured = measure_outcomes(outcomes(scores, targets), is_anchor)["all"]["expected_calibration_error"]
    assert measured == pytest.approx(expected, abs=1e-9)
    bins = reliability(outcomes(scores, targets)).to_pylist()
    assert sum(row["samples"] for row in bins) == len(targets)
    gaps = [row["samples"] * abs(row["mean_confidence"] - row["accuracy"]) for row in bins if row["samples"]]
    assert sum(gaps) / len(targets) == pytest.approx(expected, abs=1e-9)


def test_equal_scores_rank_by_vocabulary_index() -> None:
    found = outcomes(np.zeros((4, 4), np.float32), np.array([0, 1, 3, -1]))
    assert found.rank.tolist() == [0, 1, 3, -1]
    assert found.predicted.tolist() == [0, 0, 0, 0]


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), shift=st.floats(-50, 50))
def test_a_constant_added_to_a_row_and_an_order_of_rows_change_no_metric(seed: int, shift: float) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.integers(-8, 9, (30, 5)).astype(np.float64)
    targets = generator.integers(-1, 5, 30)
    is_anchor = np.array([True, False, False, True, False])
    order = generator.permutation(30)
    first = measure_outcomes(outcomes(scores, targets), is_anchor)
    second = measure_outcomes(outcomes(scores[order] + np.round(shift), targets[order]), is_anchor)
    for group in first:
        for name in METRICS:
            value, other = first[group][name], second[group][name]
            assert (value is None) == (other is None)
            if value is not None:
                assert 0 <= value <= 1 + 1e-12
                assert other == pytest.approx(value, abs=1e-9)


def test_outcomes_of_batches_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, targets, is_anchor, _ = random_samples(3)
    whole = measure_outcomes(outcomes(scores, targets), is_anchor)
    of_whole = outcomes(scores, targets)
    for start in range(0, 400, 37):
        batch = outcomes(scores[start : start + 37], targets[start : start + 37])
        for name in ("target", "predicted", "rank", "confidence"):
            expected = getattr(of_whole, name)[start : start + 37]
            assert np.array_equal(getattr(batch, name), expected), name
    monkeypatch.setattr("behaviorlm.metrics.label_probabilities.SCORES_PER_BLOCK", 50)
    assert measure_outcomes(outcomes(scores, targets), is_anchor) == whole


def test_the_table_per_behavior_adds_up_and_has_a_nameless_row_for_the_unseen() -> None:
    scores, targets, is_anchor, _ = random_samples(5)
    names = [f"behavior {index}" for index in range(12)]
    table = per_behavior_table(outcomes(scores, targets), names, is_anchor, np.arange(12) * 10).to_pylist()
    assert [row["behavior"] for row in table] == [*names, None]
    assert sum(row["targets"] for row in table) == sum(row["predicted"] for row in table) == len(targets)
    assert table[-1]["targets"] == (targets < 0).sum() and table[-1]["recall"] == 0
    recall = [row["recall"] for row in table if row["targets"]]
    assert np.mean(recall) == pytest.approx(
        measure_outcomes(outcomes(scores, targets), is_anchor)["all"]["macro_recall"]
    )
    assert [row["precision"] is None for row in table] == [row["predicted"] == 0 for row in table]
    seen = targets >= 0
    without = per_behavior_table(outcomes(scores[seen], targets[seen]), names, is_anchor, np.arange(12))
    assert len(without) == 12


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_cannot_be_ranked_are_refused_with_their_row(bad: float) -> None:
    scores = np.zeros((5, 3), np.float32)
    scores[3, 1] = bad
    with pytest.raises(DataError, match="row 3"):
        outcomes(scores, np.zeros(5, int))


def test_a_target_of_another_vocabulary_and_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="target 7 of row 1"):
        outcomes(np.zeros((2, 3)), np.array([0, 7]))
    with pytest.raises(DataError, match="is_anchor"):
        measure_outcomes(outcomes(np.zeros((2, 3)), np.array([0, 1])), np.array([True]))
    with pytest.raises(DataError, match="is_repeat"):
        measure_outcomes(outcomes(np.zeros((2, 3)), np.array([0, 1])), np.ones(3, bool), np.ones(1, bool))
    with pytest.raises(DataError, match="at least 2 behaviors"):
        outcomes(np.zeros((2, 1)), np.array([0, 0]))
