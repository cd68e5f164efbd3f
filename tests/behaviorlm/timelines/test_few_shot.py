"""Few shots: how many of each behavior, which, and that more shots keep what fewer took; against counting by hand."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behaviorlm.timelines.config import FewShotConfig
from behaviorlm.timelines.few_shot import training_limits, used_shares, validation_limits, within_limits
from behaviorlm.timelines.vocabulary import Vocabulary

VOCABULARY = Vocabulary(
    ("a", "b", "c", "d", "never"), np.array([700, 240, 40, 8, 0]), np.array([True, True, False, False, False])
)


def few(shots: int, seed: int = 0) -> FewShotConfig:
    return FewShotConfig(tail_samples=shots, seed=seed)


def samples(seed: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Targets, some of no known behavior, and ids."""
    random = np.random.default_rng(seed)
    return random.integers(-1, 5, number), random.integers(0, 256, (number, 16), dtype=np.uint8)


def used(behavior: np.ndarray, ids: np.ndarray, limits: list[int], seed: int = 0) -> set[bytes]:
    taken = within_limits(behavior, ids, np.array(limits), seed)
    return {row.tobytes() for row in ids[taken]}


@given(st.integers(0, 1000), st.integers(0, 200), st.lists(st.integers(0, 30), min_size=5, max_size=5))
def test_each_behavior_has_its_limit_and_others_have_all(seed: int, number: int, limits: list[int]) -> None:
    behavior, ids = samples(seed, number)
    found = Counter(behavior[within_limits(behavior, ids, np.array(limits), 3)].tolist())
    there = Counter(behavior.tolist())
    assert found[-1] == there[-1]
    assert [found[k] for k in range(5)] == [min(there[k], limit) for k, limit in enumerate(limits)]


def test_more_shots_keep_what_fewer_took_in_any_order_of_the_rows() -> None:
    behavior, ids = samples(5, 400)
    three, ten = used(behavior, ids, [3] * 5), used(behavior, ids, [10] * 5)
    assert three < ten
    order = np.random.default_rng(6).permutation(len(ids))
    assert used(behavior[order], ids[order], [10] * 5) == ten
    assert used(behavior, ids, [10] * 5, seed=1) != ten


def test_only_the_tail_is_limited() -> None:
    assert training_limits(VOCABULARY, few(10)).tolist() == [700, 240, 10, 8, 0]
    assert used_shares(VOCABULARY, few(10)).tolist() == [1, 1, 0.25, 1, 1]
    assert used_shares(VOCABULARY, FewShotConfig()).tolist() == [1] * 5


def test_validation_keeps_the_share_of_each_behavior_that_training_does() -> None:
    there = np.array([100, 50, 30, 3, 2])
    found = np.array([validation_limits(VOCABULARY, few(3, seed), there) for seed in range(2000)])
    assert (found[:, [0, 1, 4]] == there[[0, 1, 4]]).all()
    # 3 of 40 training targets: 2.25 of 30; 3 of 8: 1.125 of 3
    assert set(found[:, 2]) == {2, 3} and set(found[:, 3]) == {1, 2}
    assert found[:, 2:4].mean(axis=0) == pytest.approx([2.25, 1.125], abs=0.05)


@given(st.integers(0, 100), st.integers(1, 40), st.integers(1, 40))
def test_more_shots_never_use_fewer_validation_samples(seed: int, shots: int, others: int) -> None:
    there = np.array([5, 7, 31, 9, 4])
    fewer, more = (
        validation_limits(VOCABULARY, few(number, seed), there) for number in sorted((shots, others))
    )
    assert (fewer <= more).all() and (more <= there).all()


def test_a_share_is_of_every_behavior_and_larger_ones_keep_what_smaller_took() -> None:
    drawn = np.array(
        [training_limits(VOCABULARY, FewShotConfig(share=0.1, seed=seed)) for seed in range(2000)]
    )
    assert (drawn[:, :3] == [70, 24, 4]).all() and (drawn[:, 4] == 0).all()
    assert set(drawn[:, 3]) == {0, 1} and drawn[:, 3].mean() == pytest.approx(0.8, abs=0.04)
    found = [training_limits(VOCABULARY, FewShotConfig(share=share)) for share in (0.05, 0.3, 0.77, 1.0)]
    assert (np.diff(found, axis=0) >= 0).all() and (found[-1] == VOCABULARY.counts).all()
    both = FewShotConfig(share=0.5, tail_samples=10)
    assert training_limits(VOCABULARY, both).tolist() == [350, 120, 10, 4, 0]
    assert used_shares(VOCABULARY, both).tolist() == [0.5, 0.5, 0.25, 0.5, 0.5]
    assert not both.uses_all and FewShotConfig(seed=4).uses_all
