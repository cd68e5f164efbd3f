"""Counting baselines against plain Python dictionaries, and that they see nothing they must not see."""

from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa
import pytest
from scipy.optimize import minimize

from behaviorlm.baselines import fit_baselines
from behaviorlm.baselines.frequency import fit_per_user_frequency, past_counts, training_prior
from behaviorlm.baselines.markov import fit_bigram, fit_markov
from behaviorlm.baselines.per_user_markov import fit_per_user_markov
from behaviorlm.baselines.timelines import TimelineArrays, timeline_arrays
from behaviorlm.baselines.weights import CONCENTRATION_GRID, LevelEvidence, fit_trust
from behaviorlm.errors import DataError

NAMES = ["rest", "eat", "walk", "call", "fly"]


def random_table(seed: int, users: int = 30, longest: int = 40) -> pa.Table:
    """Timelines of a second-order process with context, time splits and an unseen behavior."""
    generator = np.random.default_rng(seed)
    transition = generator.dirichlet(np.full(5, 0.3), (5, 5))
    rows = []
    for user in range(users):
        length = int(generator.integers(3, longest))
        before, last = 0, 0
        for position in range(length):
            behavior = int(generator.choice(5, p=transition[before, last]))
            before, last = last, behavior
            share = position / length
            rows.append(
                {
                    "user": f"user {user}",
                    "position": position,
                    "behavior": "unheard of" if generator.random() < 0.03 else NAMES[behavior],
                    "split": 0 if share < 0.7 else 1 if share < 0.85 else 2,
                    "is_target": position >= 1,
                    "before.weekday": ["Mon", "Tue", None][int(generator.integers(3))],
                    "before.place": ["home", "work"][int(generator.integers(2))],
                }
            )
    return pa.Table.from_pylist(rows)


def history(timelines: TimelineArrays, row: int, steps: int) -> tuple[int, ...]:
    """The last behaviors before a row, -9 before the beginning of its timeline."""
    start = timelines.user_start[row]
    return tuple(
        int(timelines.behavior[row - step]) if row - step >= start else -9 for step in range(1, steps + 1)
    )


def test_arrays_of_a_table_follow_its_users_and_tell_every_combination_of_context_apart() -> None:
    table = random_table(0)
    timelines = timeline_arrays(table, NAMES)
    rows = table.to_pylist()
    for row, event in enumerate(rows):
        assert timelines.user_start[row] == row - event["position"]
        name = event["behavior"]
        assert timelines.behavior[row] == (NAMES.index(name) if name in NAMES else -1)
    combinations = defaultdict(set)
    for code, event in zip(timelines.context, rows, strict=True):
        combinations[int(code)].add((event["before.weekday"], event["before.place"]))
    assert timelines.contexts == len(combinations) == 6
    assert all(len(of_code) == 1 for of_code in combinations.values())
    assert timeline_arrays(table.drop_columns(["before.weekday", "before.place"]), NAMES).contexts == 1


def test_timelines_that_are_torn_apart_are_refused() -> None:
    table = random_table(0)
    with pytest.raises(DataError, match="row 4"):
        timeline_arrays(pa.concat_tables([table[:4], table[5:]]), NAMES)
    moved = table.set_column(0, "user", pa.array([f"user {row % 2}" for row in range(len(table))]))
    with pytest.raises(DataError, match="whole and in order"):
        timeline_arrays(moved, NAMES)


@pytest.mark.parametrize("per_block", [1, 37, 4_000_000])
def test_counts_of_a_users_past_equal_a_loop_in_blocks_of_any_size(
    per_block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("behaviorlm.baselines.frequency.EVENTS_PER_BLOCK", per_block)
    timelines = timeline_arrays(random_table(1), NAMES)
    asked = np.random.default_rng(0).permutation(len(timelines.behavior))[:200]
    expected = np.zeros((200, 5))
    for place, row in enumerate(asked):
        for earlier in range(timelines.user_start[row], row):
            if timelines.behavior[earlier] >= 0:
                expected[place, timelines.behavior[earlier]] += 1
    assert np.array_equal(past_counts(timelines, asked), expected)


def test_the_users_own_transitions_are_backed_by_his_frequencies() -> None:
    timelines = timeline_arrays(random_table(8), NAMES)
    model = fit_per_user_markov(timelines)
    rows = np.arange(len(timelines.behavior))[::-1][:200]
    below = np.exp(model.below.predict(timelines, rows).astype(np.float64))

    def expected(concentration: float, row: int, backed: np.ndarray) -> np.ndarray:
        start, last = int(timelines.user_start[row]), history(timelines, row, 1)
        before = [one for one in range(start, row) if history(timelines, one, 1) == last]
        followed = Counter(int(timelines.behavior[one]) for one in before)
        counts = np.array([followed[behavior] for behavior in range(5)], np.float64)
        shares: np.ndarray = (counts + concentration * backed) / (counts.sum() + concentration)
        return shares

    found = np.exp(model.predict(timelines, rows).astype(np.float64))
    by_hand = [expected(model.concentration, int(row), of) for row, of in zip(rows, below, strict=True)]
    np.testing.assert_allclose(found, by_hand, rtol=1e-5)
    assert found.sum(axis=1) == pytest.approx(np.ones(len(rows)))
    validation = timelines.target_rows(1)
    validation = validation[timelines.behavior[validation] >= 0]
    backed = np.exp(model.below.predict(timelines, validation).astype(np.float64))

    def loss(concentration: float) -> float:
        said = [expected(concentration, int(row), of) for row, of in zip(validation, backed, strict=True)]
        return -float(
            np.mean(np.log([of[timelines.behavior[row]] for of, row in zip(said, validation, strict=True)]))
        )

    assert model.concentration == min(CONCENTRATION_GRID, key=loss)


def test_the_users_frequency_is_smoothed_with_the_concentration_most_likely_on_validation() -> None:
    timelines = timeline_arrays(random_table(2), NAMES)
    model = fit_per_user_frequency(timelines)
    rows = timelines.target_rows(1)
    rows = rows[timelines.behavior[rows] >= 0]
    past, prior = past_counts(timelines, rows), training_prior(timelines)

    def loss(concentration: float) -> float:
        shares = (past + concentration * prior) / (past.sum(axis=1, keepdims=True) + concentration)
        return float(-np.log(shares[np.arange(len(rows)), timelines.behavior[rows]]).sum())

    assert loss(model.concentration) == min(
        map(loss, (0.1, 0.5, 1, 2, 5, 10, 20, 50, 100, 500, 1e3, 1e6, model.concentration))
    )
    shares = (past + model.concentration * prior) / (past.sum(axis=1, keepdims=True) + model.concentration)
    assert np.allclose(model.predict(timelines, rows), np.log(shares), atol=1e-6)


def test_the_bigram_ranks_by_what_followed_in_training_and_breaks_ties_by_frequency() -> None:
    timelines = timeline_arrays(random_table(3), NAMES)
    followed: dict[int, Counter[int]] = defaultdict(Counter)
    overall: Counter[int] = Counter()
    for row in range(len(timelines.behavior)):
        if timelines.split[row] == 0 and timelines.behavior[row] >= 0:
            followed[history(timelines, row, 1)[0]][int(timelines.behavior[row])] += 1
            overall[int(timelines.behavior[row])] += 1
    asked = timelines.target_rows(2)
    scores = fit_bigram(timelines).predict(timelines, asked)
    for row, of_row in zip(asked, scores, strict=True):
        counts = followed[history(timelines, row, 1)[0]]
        by_hand = sorted(range(5), key=lambda behavior: (-counts[behavior], -overall[behavior], behavior))
        assert of_row.argsort(kind="stable")[::-1].tolist() == by_hand


@pytest.mark.parametrize("use_context", [False, True])
def test_the_back_off_equals_nested_dictionaries_under_the_same_weights(use_context: bool) -> None:
    timelines = timeline_arrays(random_table(4), NAMES)
    model = fit_markov(timelines, 3, use_context)
    asked = timelines.target_rows(2)
    scores = model.predict(timelines, asked)

    def conditions(row: int) -> list[tuple]:
        chain: list[tuple] = [("context", timelines.context[row])] if use_context else []
        for steps in (1, 2, 3):
            past = history(timelines, row, steps)
            chain.append((steps, past))
            if use_context:
                chain.append((steps, past, timelines.context[row]))
        return chain

    tables: list[dict[tuple, Counter[int]]] = [defaultdict(Counter) for _ in model.levels]
    for row in timelines.training_rows():
        for table, condition in zip(tables, conditions(row), strict=True):
            table[condition][int(timelines.behavior[row])] += 1
    edges = (1.0, 1.5, 2.0, 3.0, 5.0, 9.0, 20.0)
    weights: list[dict[int, float]] = [{} for _ in model.levels]
    for level, trust, of_bucket in zip(model.levels, model.trust, weights, strict=True):
        for state in range(len(trust)):
            bucket = sum(level.totals[state] / np.diff(level.starts)[state] > edge + 1e-9 for edge in edges)
            assert of_bucket.setdefault(bucket, trust[state]) == trust[state]
    for row, of_row in zip(asked, scores, strict=True):
        probability = training_prior(timelines)
        for table, of_bucket, condition in zip(tables, weights, conditions(row), strict=True):
            counts = table.get(condition)
            if counts:
                events = sum(counts.values())
                weight = of_bucket[sum(events / len(counts) > edge + 1e-9 for edge in edges)]
                share = np.array([counts[behavior] / events for behavior in range(5)])
                probability = weight * share + (1 - weight) * probability
        assert np.allclose(of_row, np.log(probability), atol=1e-5)


def test_expectation_maximization_finds_the_weights_a_general_optimizer_finds() -> None:
    generator = np.random.default_rng(0)
    prior = generator.uniform(0.05, 0.2, 3000)
    levels = [
        LevelEvidence(
            generator.beta(0.5 + level, 1.5, 3000),
            generator.random(3000) < 0.9,
            generator.integers(0, 2, 3000),
        )
        for level in range(2)
    ]

    def loss(values: np.ndarray) -> float:
        trust = values.reshape(2, 2)
        probability = prior
        penalty = 0.0
        for level, weights in zip(levels, trust, strict=True):
            weight = np.where(level.is_seen, weights[level.bucket], 0.0)
            probability = weight * level.share + (1 - weight) * probability
            penalty -= 0.5 * np.log(weights * (1 - weights)).sum()  # the prior observation of one half
        return float(-np.log(probability).sum() + penalty)

    found = fit_trust(levels, prior, iterations=2000)
    best = minimize(loss, np.full(4, 0.5), bounds=[(1e-4, 1 - 1e-4)] * 4, method="L-BFGS-B")
    assert np.allclose(np.concatenate([weights[:2] for weights in found]), best.x, atol=0.02)
    assert loss(np.concatenate([weights[:2] for weights in found])) <= best.fun + 0.1


@pytest.mark.parametrize("seed", range(2))
def test_every_baseline_predicts_a_distribution_and_none_looks_at_the_event_itself_or_later(
    seed: int,
) -> None:
    timelines = timeline_arrays(random_table(seed), NAMES)
    asked = timelines.target_rows(2)
    last = asked[:: max(1, len(asked) // 20)]
    for name, model in fit_baselines(timelines).items():
        scores = model.predict(timelines, asked)
        assert scores.dtype == np.float32 and np.isfinite(scores).all(), name
        assert np.allclose(np.exp(scores.astype(np.float64)).sum(axis=1), 1, atol=1e-4), name
        for row in last:
            behavior = timelines.behavior.copy()
            behavior[row:] = (behavior[row:] + 1) % 5
            changed = TimelineArrays(**{**vars(timelines), "behavior": behavior})
            assert np.allclose(model.predict(changed, np.array([row])), scores[asked == row], atol=1e-6), name


@pytest.mark.parametrize("block", [7, 4_000_000])
def test_predictions_do_not_depend_on_which_others_are_asked_for(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block of 7 is less than two rows, and than two timelines, which run on from block to block."""
    timelines = timeline_arrays(random_table(6), NAMES)
    asked = timelines.target_rows(2)
    shuffled = np.random.default_rng(0).permutation(asked)
    baselines = fit_baselines(timelines)
    whole = {name: model.predict(timelines, asked) for name, model in baselines.items()}
    monkeypatch.setattr("behaviorlm.baselines.frequency.EVENTS_PER_BLOCK", block)
    monkeypatch.setattr("behaviorlm.baselines.markov.PROBABILITIES_PER_BLOCK", block)
    for name, model in baselines.items():
        for rows in (asked, shuffled):
            expected = whole[name][np.searchsorted(asked, rows)]
            for step in (1, 7, len(rows)):
                slices = [rows[start : start + step] for start in range(0, len(rows), step)]
                found = np.concatenate([model.predict(timelines, part) for part in slices])
                assert np.array_equal(found, expected), (name, step)


def test_nothing_fitted_depends_on_test_behaviors() -> None:
    timelines = timeline_arrays(random_table(5), NAMES)
    behavior = np.where(timelines.split == 2, (timelines.behavior + 2) % 5, timelines.behavior).astype(
        np.int32
    )
    changed = TimelineArrays(**{**vars(timelines), "behavior": behavior})
    asked = timelines.target_rows(0)
    other = fit_baselines(changed)
    for name, model in fit_baselines(timelines).items():
        assert np.array_equal(model.predict(timelines, asked), other[name].predict(timelines, asked)), name


def test_longer_histories_and_context_help_where_they_matter_with_and_without_validation() -> None:
    generator = np.random.default_rng(0)
    behaviors, context = [0, 1], [0, 0]
    for _ in range(6000):  # next = sum of the last two and the context, one time in five at random
        context.append(int(generator.integers(2)))
        ruled = (behaviors[-1] + behaviors[-2] + context[-1]) % 5
        behaviors.append(ruled if generator.random() < 0.8 else int(generator.integers(5)))
    rows = np.arange(len(behaviors))
    for shares in ((0.7, 0.85), (0.85, 0.85)):
        split = np.searchsorted(np.array(shares) * len(rows), rows, side="right").astype(np.int8)
        timelines = TimelineArrays(
            behavior=np.array(behaviors, np.int32),
            user_start=np.zeros(len(rows), np.int64),
            is_target=rows > 0,
            split=split,
            context=np.array(context, np.int32),
            behaviors=5,
            contexts=2,
        )
        asked = timelines.target_rows(2)
        accuracy = {
            name: np.mean(model.predict(timelines, asked).argmax(axis=1) == timelines.behavior[asked])
            for name, model in fit_baselines(timelines).items()
        }
        assert accuracy["markov_order_3_context"] > 0.78
        assert 0.35 < accuracy["markov_order_2"] < 0.5
        assert accuracy["markov_order_1"] < 0.3


def test_a_log_without_training_events_is_refused_and_one_without_context_has_no_context_baseline() -> None:
    table = random_table(0).drop_columns(["before.weekday", "before.place"])
    timelines = timeline_arrays(table, NAMES)
    assert "markov_order_3_context" not in fit_baselines(timelines)
    with pytest.raises(DataError, match="training events"):
        fit_baselines(TimelineArrays(**{**vars(timelines), "split": np.ones(len(table), np.int8)}))
