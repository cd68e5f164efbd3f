"""Quotas and selection against brute force, and what must hold for any input."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from behaviorlm.config import load_settings
from behaviorlm.errors import ConfigError, DataError
from behaviorlm.selection.config import SelectionConfig
from behaviorlm.selection.quotas import quotas, requested_total, select


def names_of(behaviors: int) -> list[str]:
    return [f"behavior {(index * 7) % behaviors:03d}" for index in range(behaviors)]


def random_ids(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (samples, 16)).astype(np.uint8)


def random_log(
    seed: int, samples: int = 600, behaviors: int = 7
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(ids, behavior, difficulty with ties) of a long-tailed log."""
    generator = np.random.default_rng(seed)
    shares = 1.0 / np.arange(1, behaviors + 1) ** 1.3
    behavior = generator.choice(behaviors, samples, p=shares / shares.sum()).astype(np.int32)
    return random_ids(samples, seed), behavior, np.round(generator.normal(size=samples), 1)


@settings(deadline=None, max_examples=200)
@given(
    counts=st.lists(st.integers(0, 500), min_size=2, max_size=12).filter(lambda counts: sum(counts) > 0),
    total=st.integers(1, 3000),
    balance=st.floats(0, 1),
    most=st.none() | st.integers(1, 300),
)
def test_quotas_are_the_capped_proportional_shares_rounded_to_the_requested_sum(
    counts: list[int], total: int, balance: float, most: int | None
) -> None:
    config = SelectionConfig(total=total, balance=balance, max_per_behavior=most)
    available = np.array(counts)
    caps = np.minimum(available, most or 10**9)
    result = quotas(available, np.zeros(len(counts), bool), names_of(len(counts)), config)
    reachable = min(total, int(caps.sum()))
    assert result.sum() == reachable
    assert (result <= caps).all() and (result >= 0).all()
    if reachable < caps.sum():
        # Independent solution: the multiplier at which the capped shares add up to the total.
        weights = np.where(available > 0, np.maximum(available, 1.0) ** (1 - balance), 0.0)
        multiplier = brentq(
            lambda factor: np.minimum(caps, factor * weights).sum() - reachable, 0, 1e6, xtol=1e-13
        )
        assert (np.abs(result - np.minimum(caps, multiplier * weights)) < 1 + 1e-6).all()


def test_balance_goes_from_the_natural_mix_to_equal_counts() -> None:
    counts = np.array([800, 160, 40])
    anchors = np.array([True, False, False])
    names = ["a", "b", "c"]
    natural = quotas(counts, anchors, names, SelectionConfig(total=100, balance=0))
    equal = quotas(counts, anchors, names, SelectionConfig(total=90, balance=1))
    between = quotas(counts, anchors, names, SelectionConfig(total=100, balance=0.5))
    assert natural.tolist() == [80, 16, 4]
    assert equal.tolist() == [30, 30, 30]
    roots = np.sqrt(counts) / np.sqrt(counts).sum() * 100
    assert np.abs(between - roots).max() < 1


def test_equal_remainders_go_by_name_and_not_by_position() -> None:
    counts = np.array([50, 50, 50])
    config = SelectionConfig(total=4, balance=1)
    assert quotas(counts, np.zeros(3, bool), ["c", "a", "b"], config).tolist() == [1, 2, 1]
    assert quotas(counts, np.zeros(3, bool), ["a", "b", "c"], config).tolist() == [2, 1, 1]


def test_what_a_cap_leaves_over_goes_to_the_others_in_proportion() -> None:
    config = SelectionConfig(total=100, balance=0, max_per_behavior=40)
    assert quotas(np.array([600, 200, 200]), np.zeros(3, bool), ["a", "b", "c"], config).tolist() == [
        40,
        30,
        30,
    ]


def test_an_anchor_share_fixes_the_groups_and_leaves_a_short_group_short() -> None:
    counts = np.array([500, 300, 20, 10])
    anchors = np.array([True, True, False, False])
    config = SelectionConfig(total=100, balance=0, anchor_share=0.8)
    result = quotas(counts, anchors, list("abcd"), config)
    assert result.tolist() == [50, 30, 13, 7]
    short = quotas(counts, anchors, list("abcd"), SelectionConfig(total=100, balance=0, anchor_share=0.5))
    assert short[:2].sum() == 50 and short[2:].tolist() == [20, 10]
    with pytest.raises(DataError, match="tail behaviors"):
        quotas(counts, np.ones(4, bool), list("abcd"), config)
    whole = SelectionConfig(total=100, anchor_share=1.0)
    assert quotas(counts, np.ones(4, bool), list("abcd"), whole).sum() == 100


def chosen_by_hand(
    ids: np.ndarray, behavior: np.ndarray, difficulty: np.ndarray, quota: np.ndarray, *, hardest: bool
) -> set[int]:
    chosen: set[int] = set()
    for index, wanted in enumerate(quota):
        rows = [row for row in range(len(ids)) if behavior[row] == index]
        sign = -1 if hardest else 1
        rows.sort(key=lambda row: (sign * difficulty[row], ids[row].tobytes()))
        chosen.update(rows[:wanted])
    return chosen


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("within", ["hard", "easy"])
def test_hard_and_easy_take_the_extremes_of_each_behavior_with_ties_by_id(seed: int, within: str) -> None:
    ids, behavior, difficulty = random_log(seed)
    config = SelectionConfig(total=0.4, within=within)
    selected, report = select(ids, behavior, difficulty, np.arange(7) < 2, names_of(7), config)
    expected = chosen_by_hand(ids, behavior, difficulty, report.quotas, hardest=within == "hard")
    assert set(np.flatnonzero(selected)) == expected
    assert np.array_equal(np.bincount(behavior[selected], minlength=7), report.quotas)
    assert report.available.tolist() == np.bincount(behavior, minlength=7).tolist()
    assert (report.requested, report.selected, report.shortfall) == (240, 240, 0)


def test_mixed_takes_its_hard_share_from_the_top_and_the_rest_from_what_is_left() -> None:
    ids, behavior, difficulty = random_log(3)
    config = SelectionConfig(total=0.5, within="mixed", hard_share=0.25)
    selected, report = select(ids, behavior, difficulty, np.arange(7) < 2, names_of(7), config)
    hard_quota = np.floor(0.25 * report.quotas + 0.5).astype(int)
    hardest = chosen_by_hand(ids, behavior, difficulty, hard_quota, hardest=True)
    assert hardest <= set(np.flatnonzero(selected))
    rest = selected.copy()
    rest[list(hardest)] = False
    left = np.ones(len(ids), bool)
    left[list(hardest)] = False
    # The rest is uniform: of the most frequent behavior its mean difficulty is near that of what was left.
    of_first = behavior == 0
    gap = difficulty[rest & of_first].mean() - difficulty[left & of_first].mean()
    assert abs(gap) < 4 * difficulty[of_first].std() / np.sqrt((rest & of_first).sum())
    assert np.array_equal(np.bincount(behavior[selected], minlength=7), report.quotas)


def test_a_band_is_filled_from_its_quantiles_first_and_from_the_nearest_outside_it() -> None:
    ids, behavior = random_ids(100), np.repeat([0, 1], 50)
    difficulty = np.tile(np.arange(50.0), 2)
    narrow = SelectionConfig(total=20, balance=1, within="band", band=(0.4, 0.6))
    selected, report = select(ids, behavior, difficulty, np.zeros(2, bool), ["a", "b"], narrow)
    assert set(difficulty[selected]) == set(range(20, 30)) and report.outside_band == 0
    wider = SelectionConfig(total=28, balance=1, within="band", band=(0.4, 0.6))
    selected, report = select(ids, behavior, difficulty, np.zeros(2, bool), ["a", "b"], wider)
    assert set(difficulty[selected]) == set(range(18, 32)) and report.outside_band == 8


def test_random_is_uniform_and_changes_with_the_seed() -> None:
    ids = random_ids(2000)
    behavior, difficulty = np.zeros(2000, int), np.arange(2000.0)
    taken = np.zeros(2000)
    for seed in range(100):
        config = SelectionConfig(total=0.25, within="random", seed=seed)
        taken += select(ids, behavior, difficulty, np.zeros(2, bool), ["a", "b"], config)[0]
    # Binomial(100, 1/4) for every sample: mean 25, variance 18.75, and no dependence on difficulty.
    assert taken.mean() == 25
    assert taken.var() == pytest.approx(18.75, rel=0.2)
    assert abs(np.corrcoef(taken, difficulty)[0, 1]) < 0.1


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    within=st.sampled_from(["hard", "easy", "band", "mixed", "random"]),
    total=st.integers(1, 150),
)
def test_the_choice_depends_on_the_samples_and_never_on_the_order_of_rows(
    seed: int, within: str, total: int
) -> None:
    ids, behavior, difficulty = random_log(seed, samples=80, behaviors=4)
    config = SelectionConfig(total=total, within=within, balance=0.7, seed=seed)
    anchors = np.array([True, False, False, False])
    first, report = select(ids, behavior, difficulty, anchors, names_of(4), config)
    order = np.random.default_rng(seed + 1).permutation(80)
    second, other = select(ids[order], behavior[order], difficulty[order], anchors, names_of(4), config)
    assert np.array_equal(first[order], second)
    assert report.to_dict(names_of(4)) == other.to_dict(names_of(4))
    assert first.sum() == report.selected == min(total, 80)
    assert report.shortfall == max(0, total - 80)


def test_ids_from_arrow_and_ids_that_differ_in_their_last_byte_or_end_in_zeros_are_told_apart() -> None:
    ids = np.zeros((300, 16), np.uint8)
    ids[:, 0] = np.arange(300) % 3
    ids[:, 14], ids[:, 15] = divmod(np.arange(300) // 3, 10)
    behavior, difficulty = np.zeros(300, int), np.zeros(300)
    config = SelectionConfig(total=50, within="hard")
    expected = select(ids, behavior, difficulty, np.zeros(2, bool), ["a", "b"], config)[0]
    assert ids[expected, 0].max() == 0  # all tied, so the smallest ids
    array = pa.array([row.tobytes() for row in ids], pa.binary(16))
    for form in (array, pa.chunked_array([array[:7], array[7:]])):
        assert np.array_equal(
            select(form, behavior, difficulty, np.zeros(2, bool), ["a", "b"], config)[0], expected
        )


def test_repeated_ids_undefined_difficulty_and_foreign_behaviors_are_refused() -> None:
    ids, behavior, difficulty = random_log(1)
    anchors, names, config = np.arange(7) < 2, names_of(7), SelectionConfig()
    with pytest.raises(DataError, match="more than once"):
        select(np.concatenate([ids[:-1], ids[:1]]), behavior, difficulty, anchors, names, config)
    with pytest.raises(DataError, match="row 5"):
        select(ids, behavior, np.where(np.arange(600) == 5, np.nan, difficulty), anchors, names, config)
    with pytest.raises(DataError, match="outside the vocabulary"):
        select(ids, np.where(np.arange(600) == 5, -1, behavior), difficulty, anchors, names, config)
    with pytest.raises(DataError, match="no training samples"):
        select(ids[:0], behavior[:0], difficulty[:0], anchors, names, config)
    with pytest.raises(DataError, match="uint8"):
        select(np.arange(600), behavior, difficulty, anchors, names, config)


def test_the_total_is_a_count_or_a_share_and_wrong_keys_are_reported_together() -> None:
    assert requested_total(1000, load_settings(SelectionConfig, data={"total": 40})) == 40
    assert requested_total(1000, load_settings(SelectionConfig, data={"total": 0.25})) == 250
    assert requested_total(1000, load_settings(SelectionConfig, data={"total": 1.0})) == 1000
    assert requested_total(1000, load_settings(SelectionConfig, data={"total": 1})) == 1
    with pytest.raises(ConfigError) as refused:
        load_settings(
            SelectionConfig, data={"balance": 2, "within": "hardest", "band": [0.5, 1.5], "totl": 3}
        )
    for key in ("balance", "within", "band", "totl"):
        assert key in str(refused.value)
    with pytest.raises(ConfigError, match="low < high"):
        load_settings(SelectionConfig, data={"band": [0.7, 0.2]})
