"""Splits: the shares that they promise, nothing torn apart, no dependence on who else is in the log."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from behaviorlm.errors import ConfigError, DataError
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.timelines.config import SplitConfig
from behaviorlm.timelines.splits import assign_splits, check_split_settings, user_starts


def timelines(
    sizes: list[int], groups: list[str] | None = None, labels: list[str | None] | None = None
) -> pa.Table:
    users = [f"u{index:04d}" for index, size in enumerate(sizes) for _ in range(size)]
    return pa.table(
        {
            "user": pa.array(users, pa.string()),
            "group": pa.array(groups if groups is not None else users, pa.string()),
            "split_label": pa.array(labels if labels is not None else [None] * len(users), pa.string()),
        }
    )


@settings(max_examples=100, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 60), max_size=20),
    percents=st.tuples(st.integers(0, 49), st.integers(0, 49)),
)
def test_by_time_each_user_ends_with_the_promised_shares(sizes: list[int], percents: tuple[int, int]) -> None:
    config = SplitConfig(by="time", validation=percents[0] / 100, test=percents[1] / 100)
    splits = assign_splits(timelines(sizes), config)
    assert splits.dtype == np.int8
    start = 0
    for size in sizes:
        validation, test = size * percents[0] // 100, size * percents[1] // 100
        if (percents[0] and not validation) or (percents[1] and not test):
            validation = test = 0
        expected = [0] * (size - validation - test) + [1] * validation + [2] * test
        assert splits[start : start + size].tolist() == expected
        start += size
    assert len(splits) == start


def test_a_user_with_too_few_events_for_every_share_is_all_train() -> None:
    splits = assign_splits(timelines([9, 10]), SplitConfig(validation=0.2, test=0.1))
    assert splits.tolist() == [0] * 9 + [0] * 7 + [1, 1, 2]


def test_by_group_no_group_is_torn_and_shares_hold_on_average() -> None:
    groups = [f"g{index}" for index in np.random.default_rng(0).integers(0, 5000, size=20_000)]
    splits = assign_splits(timelines([20_000], groups), SplitConfig(by="group", validation=0.1, test=0.2))
    of_group: dict[str, set[int]] = {}
    for group, split in zip(groups, splits.tolist(), strict=True):
        of_group.setdefault(group, set()).add(split)
    assert all(len(found) == 1 for found in of_group.values())
    shares = np.bincount([next(iter(found)) for found in of_group.values()], minlength=3) / len(of_group)
    # Four standard deviations of a share of 5,000 groups are below .023.
    np.testing.assert_allclose(shares, [0.7, 0.1, 0.2], atol=0.023)


def test_by_group_a_groups_split_depends_on_seed_and_name_alone() -> None:
    groups = [f"g{index}" for index in range(300)]
    config = SplitConfig(by="group")
    whole = assign_splits(timelines([300], groups), config)
    part = assign_splits(timelines([100], groups[::-3]), config)
    assert part.tolist() == whole[::-3].tolist()
    other_seed = assign_splits(timelines([300], groups), SplitConfig(by="group", seed=1))
    assert other_seed.tolist() != whole.tolist()


def test_by_group_a_larger_test_share_keeps_what_was_test() -> None:
    groups = [f"g{index}" for index in range(300)]
    small = assign_splits(timelines([300], groups), SplitConfig(by="group", test=0.1, validation=0))
    large = assign_splits(timelines([300], groups), SplitConfig(by="group", test=0.3, validation=0))
    assert set(np.flatnonzero(small == 2)) < set(np.flatnonzero(large == 2))


def test_by_column_the_labels_are_taken() -> None:
    labels: list[str | None] = ["train", "test", "validation", "train"]
    assert assign_splits(timelines([4], labels=labels), SplitConfig(by="column")).tolist() == [0, 2, 1, 0]


def test_by_column_other_words_and_capitals_mean_the_same() -> None:
    labels: list[str | None] = [
        "Train",
        " TRAINING ",
        "val",
        "Valid",
        "DEV",
        "development",
        "Test",
        "testing",
    ]
    found = assign_splits(timelines([8], labels=labels), SplitConfig(by="column"))
    assert found.tolist() == [0, 0, 1, 1, 1, 1, 2, 2] and found.dtype == np.int8


@pytest.mark.parametrize("wrong", ["eval", "holdout", "0", None])
def test_by_column_another_label_is_refused_and_shown(wrong: str | None) -> None:
    with pytest.raises(
        DataError, match=rf"events\.split_column holds {wrong!r} \(2 events\); allowed are train"
    ):
        assign_splits(timelines([3], labels=["train", wrong, wrong]), SplitConfig(by="column"))


@pytest.mark.parametrize("by", ["time", "group", "column"])
def test_an_empty_log_splits_into_nothing(by: str) -> None:
    assert assign_splits(timelines([]), SplitConfig.model_validate({"by": by})).shape == (0,)


def test_a_split_by_column_needs_the_column_in_the_mapping() -> None:
    keys: dict[str, Any] = {
        "dataset": "d",
        "paths": ["p"],
        "user": "u",
        "behavior": "b",
        "order": {"column": "o"},
    }
    with pytest.raises(ConfigError, match=r"events\.split_column"):
        check_split_settings(SplitConfig(by="column"), EventsConfig(**keys))
    check_split_settings(SplitConfig(by="column"), EventsConfig(**keys, split_column="part"))


def test_shares_that_leave_no_training_are_refused() -> None:
    with pytest.raises(ValidationError, match="must stay below 1"):
        SplitConfig(validation=0.5, test=0.5)


def test_user_starts_are_where_users_begin() -> None:
    assert user_starts(pa.array(["a", "a", "b", "c", "c"])).tolist() == [0, 2, 3]
    assert user_starts(pa.array([], pa.string())).tolist() == []
