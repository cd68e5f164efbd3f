"""Recency, time of day and the fusion of rankings against plain loops over the events."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behaviorlm.baselines import BASELINES, FUSED, FUSION, fit_baselines
from behaviorlm.baselines.frequency import training_prior
from behaviorlm.baselines.fusion import POWERS, Fusion, fit_fusion
from behaviorlm.baselines.recency import Recency, fit_recency, recent_behaviors
from behaviorlm.baselines.time_of_day import fit_time_of_day
from behaviorlm.baselines.timelines import TimelineArrays
from behaviorlm.baselines.weights import CONCENTRATION_GRID

BEHAVIORS, HOURS = 5, ("07", "08", None)


def random_timelines(seed: int, users: int = 12, longest: int = 30, few: bool = False) -> TimelineArrays:
    """Users with habits by the hour; some events unseen; few: some training events are history only."""
    random = np.random.default_rng(seed)
    lengths = random.integers(2, longest, users)
    start = np.repeat(np.cumsum(lengths) - lengths, lengths)
    rows = np.arange(len(start))
    share = (rows - start) / np.repeat(lengths, lengths)
    contexts = [(day, hour) for day in ("Mon", "Tue") for hour in HOURS]
    context = random.integers(0, len(contexts), len(rows)).astype(np.int32)
    habit = random.dirichlet(np.full(BEHAVIORS, 0.4), (users, len(HOURS)))
    user = np.repeat(np.arange(users), lengths)
    habitual = [
        int(random.choice(BEHAVIORS, p=habit[one, code % 3])) for one, code in zip(user, context, strict=True)
    ]
    behavior = np.where(random.random(len(rows)) < 0.05, -1, habitual).astype(np.int32)
    split = np.where(share < 0.6, 0, np.where(share < 0.8, 1, 2)).astype(np.int8)
    if few:
        split[(split == 0) & (behavior == 4)] = -1
    return TimelineArrays(
        behavior,
        start,
        rows > start,
        split,
        context,
        BEHAVIORS,
        len(contexts),
        tuple(contexts),
        ("before.day", "before.hour"),
    )


def tuned_on(timelines: TimelineArrays) -> list[int]:
    return [int(row) for row in timelines.target_rows(1) if timelines.behavior[row] >= 0]


def recent(timelines: TimelineArrays, row: int) -> list[int]:
    """The last 16 different behaviors among the last 64 events."""
    found: list[int] = []
    for earlier in range(row - 1, max(int(timelines.user_start[row]), row - 64) - 1, -1):
        behavior = int(timelines.behavior[earlier])
        if behavior >= 0 and behavior not in found:
            found.append(behavior)
    return found[:16]


@given(st.integers(0, 10_000), st.booleans(), st.sampled_from([5, 400]))
def test_recent_behaviors_are_those_of_a_walk_back(seed: int, few: bool, longest: int) -> None:
    timelines = random_timelines(seed, users=3, longest=longest, few=few)
    rows = np.random.default_rng(seed).permutation(len(timelines.behavior))
    for row, places in zip(rows, recent_behaviors(timelines, rows), strict=True):
        expected = recent(timelines, int(row))
        assert places.tolist() == expected + [-1] * (16 - len(expected))


def test_of_many_behaviors_only_the_latest_are_told_apart() -> None:
    behavior = np.append(np.arange(40), np.full(70, 39)).astype(np.int32)
    rows, zeros = np.arange(110), np.zeros(110, np.int64)
    timelines = TimelineArrays(behavior, zeros, rows > 0, zeros.astype(np.int8), zeros.astype(np.int32), 40)
    assert recent_behaviors(timelines, np.array([40]))[0].tolist() == list(range(39, 23, -1))
    assert recent_behaviors(timelines, np.array([109]))[0].tolist() == [39] + [-1] * 15


@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_recency_is_how_often_what_stood_at_a_place_came_next(seed: int, few: bool) -> None:
    timelines = random_timelines(seed, few=few)
    came, stood = np.zeros(16), np.zeros(16)
    for row in range(len(timelines.behavior)):
        if timelines.split[row] == 0 and timelines.behavior[row] >= 0:
            for place, behavior in enumerate(recent(timelines, row)):
                stood[place] += 1
                came[place] += behavior == timelines.behavior[row]
    weights = [one / of if of else 0.0 for one, of in zip(came, stood, strict=True)]
    prior = training_prior(timelines)

    def expected(row: int, concentration: float) -> np.ndarray:
        shares = concentration * prior
        for place, behavior in enumerate(recent(timelines, row)):
            shares[behavior] += weights[place]
        return shares / shares.sum()

    def loss(concentration: float) -> float:
        said = [expected(row, concentration)[timelines.behavior[row]] for row in tuned_on(timelines)]
        return -float(np.mean(np.log(said)))

    model = fit_recency(timelines)
    np.testing.assert_allclose(model.weights, weights, rtol=1e-12)
    assert model.concentration == min(CONCENTRATION_GRID, key=loss)
    rows = timelines.target_rows(2)
    by_hand = [expected(int(row), model.concentration) for row in rows]
    np.testing.assert_allclose(np.exp(model.predict(timelines, rows)), by_hand, rtol=1e-5)


@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize("validated", [True, False])
def test_the_hour_predicts_the_training_shares_of_its_events(few: bool, validated: bool) -> None:
    timelines = random_timelines(3, few=few)
    if not validated:
        timelines = TimelineArrays(
            **{**vars(timelines), "split": np.where(timelines.split == 1, 2, timelines.split)}
        )
    counts = {hour: np.zeros(BEHAVIORS) for hour in HOURS}
    hours = [timelines.context_values[code][1] for code in timelines.context]
    for row in timelines.training_rows():
        counts[hours[row]][timelines.behavior[row]] += 1
    prior = training_prior(timelines)

    def expected(row: int, concentration: float, less: float = 0) -> np.ndarray:
        own = counts[hours[row]].copy()
        own[timelines.behavior[row]] -= less
        shares: np.ndarray = (own + concentration * prior) / (own.sum() + concentration)
        return shares

    tuned = tuned_on(timelines) or [
        int(row) for row in timelines.target_rows(0) if timelines.behavior[row] >= 0
    ]

    def loss(concentration: float) -> float:
        said = [expected(row, concentration, not validated)[timelines.behavior[row]] for row in tuned]
        return -float(np.mean(np.log(said)))

    rows, best = timelines.target_rows(2), min(CONCENTRATION_GRID, key=loss)
    said = fit_time_of_day(timelines).predict(timelines, rows)
    np.testing.assert_allclose(np.exp(said), [expected(int(row), best) for row in rows], rtol=1e-5)


def test_the_fusion_adds_up_reciprocal_places_of_its_members() -> None:
    timelines = random_timelines(4)
    fitted = fit_baselines(timelines)
    members = [fitted[name] for name in FUSED if name != "markov_order_3"]
    fusion = fitted[FUSION]
    assert isinstance(fusion, Fusion) and list(fusion.members) == members
    assert list(fitted) == list(BASELINES) and isinstance(fitted["recency"], Recency)

    def worth(row: int) -> np.ndarray:
        total = np.zeros(BEHAVIORS)
        for member in members:
            scores = member.predict(timelines, np.array([row]))[0].tolist()
            for place, behavior in enumerate(
                sorted(range(BEHAVIORS), key=lambda one: (-scores[one], one)), 1
            ):
                total[behavior] += 1 / (60 + place)
        return total

    def shares(row: int, power: float) -> np.ndarray:
        powered = worth(row) ** power
        found: np.ndarray = powered / powered.sum()
        return found

    def loss(power: float) -> float:
        said = [shares(row, power)[timelines.behavior[row]] for row in tuned_on(timelines)]
        return -float(np.mean(np.log(said)))

    assert fusion.power == min(POWERS, key=loss)
    rows = timelines.target_rows(2)
    np.testing.assert_allclose(
        np.exp(fusion.predict(timelines, rows)), [shares(int(row), fusion.power) for row in rows], rtol=1e-4
    )
    alone = BASELINES[FUSION].fit(timelines)
    np.testing.assert_array_equal(alone.predict(timelines, rows), fusion.predict(timelines, rows))


def test_the_power_is_chosen_on_some_of_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    timelines = random_timelines(5)
    members = [fit_recency(timelines)]
    asked: list[int] = []
    told = Recency.predict

    def noted(*of: Any) -> Any:
        asked.append(len(of[2]))
        return told(*of)

    monkeypatch.setattr(Recency, "predict", noted)
    monkeypatch.setattr("behaviorlm.baselines.fusion.MOST", 50)
    fit_fusion(members, timelines)
    assert 10 <= asked[0] < 20 < len(tuned_on(timelines))


def test_a_log_without_hours_has_no_time_of_day() -> None:
    timelines = random_timelines(6)
    without = TimelineArrays(**{**vars(timelines), "context_columns": ("before.day", "before.place")})
    assert "time_of_day" not in fit_baselines(without)
