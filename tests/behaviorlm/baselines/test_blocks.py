"""Counting takes the log in parts and blocks of rows: nothing may depend on where they are cut."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behaviorlm.baselines import fit_baselines, levels, pair_counts, recency, weights
from behaviorlm.baselines import timelines as blocks
from behaviorlm.baselines.frequency import past_counts
from behaviorlm.baselines.timelines import TimelineArrays, timeline_arrays
from behaviorlm.errors import DataError
from tests.behaviorlm.baselines.test_baselines import NAMES, random_table


def predicted(timelines: TimelineArrays) -> dict[str, np.ndarray]:
    rows = np.flatnonzero(timelines.is_target)[::-1]
    return {name: of.predict(timelines, rows) for name, of in fit_baselines(timelines).items()}


@pytest.mark.parametrize(("rows", "pairs"), [(1, 1), (3, 4), (64, 1000)])
def test_every_baseline_says_the_same_to_the_bit_however_small_the_blocks(
    monkeypatch: pytest.MonkeyPatch, rows: int, pairs: int
) -> None:
    timelines = timeline_arrays(random_table(5, users=8), NAMES)
    assert len(timelines.behavior) > 100
    whole = predicted(timelines)
    monkeypatch.setattr(blocks, "ROWS_PER_BLOCK", rows)
    monkeypatch.setattr(pair_counts, "PAIRS_AT_ONCE", pairs)
    monkeypatch.setattr(levels, "PAIRS_AT_ONCE", pairs)
    cut = predicted(timelines)
    for name, scores in whole.items():
        np.testing.assert_array_equal(cut[name], scores, err_msg=name)


@pytest.mark.parametrize("cuts", [[50], [1, 2, 70], [30, 30, 31]])
def test_tables_one_after_another_are_the_table_that_they_make_also_where_a_timeline_runs_on(
    cuts: list[int],
) -> None:
    table = random_table(6, users=6)
    bounds = [0, *cuts, len(table)]
    pieces = [table.slice(begin, end - begin) for begin, end in pairwise(bounds)]
    whole, found = timeline_arrays(table, NAMES), timeline_arrays(pieces, NAMES)
    for name in ("behavior", "user_start", "is_target", "split", "context"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))
        assert getattr(found, name).dtype == getattr(whole, name).dtype
    assert (found.contexts, found.context_values) == (whole.contexts, whole.context_values)
    shown = table.select(["before.weekday", "before.place"]).to_pylist()
    assert [whole.context_values[code] for code in whole.context] == [tuple(row.values()) for row in shown]


@pytest.mark.parametrize("torn", [lambda table: [table.slice(1)], lambda table: [table.slice(0, 9), table]])
def test_a_timeline_that_does_not_go_on_where_it_ended_is_refused(
    torn: Callable[[pa.Table], list[pa.Table]],
) -> None:
    table = random_table(7, users=2)
    other = table.set_column(0, "user", pa.array([f"other {user}" for user in table["user"].to_pylist()]))
    assert len(timeline_arrays([table, other], NAMES).behavior) == 2 * len(table)
    with pytest.raises(DataError, match="does not continue its user's timeline"):
        timeline_arrays([*torn(table), other.slice(1)], NAMES)


def test_each_kind_of_history_is_counted_once_for_all_baselines(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []

    class Counted(pair_counts.PairCounts):
        def add(self, key: np.ndarray, behavior: np.ndarray) -> None:
            counted.append(len(key))
            super().add(key, behavior)

    monkeypatch.setattr(levels, "PairCounts", Counted)
    timelines = timeline_arrays(random_table(5, users=8), NAMES)
    fitted = fit_baselines(timelines)
    assert "markov_order_3_context" in fitted
    assert sum(counted) == 7 * len(timelines.training_rows())  # of 15 levels in all baselines together


@pytest.mark.parametrize("at_once", [1, 16, 10_000])
def test_pairs_are_counted_alike_however_many_at_once_and_where_they_are_too_large_for_one_number(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(pair_counts, "PAIRS_AT_ONCE", at_once)
    random = np.random.default_rng(0)
    key, behavior = random.integers(0, 9, 500), random.integers(0, 5, 500).astype(np.int32)
    pairs = Counter(zip(key.tolist(), behavior.tolist(), strict=True))
    for shift in (0, 2**60):
        table = pair_counts.PairCounts(5)
        for rows in np.array_split(np.arange(500), 7):
            table.add(key[rows] + shift, behavior[rows])
        found = list(table.whole())
        of_states = [set(of.key.tolist()) for of in found]
        assert sum(map(len, of_states)) == len(set().union(*of_states)) == 9  # those of a state together
        shown = [
            pair
            for of in found
            for pair in zip((of.key - shift).tolist(), of.behavior.tolist(), of.count.tolist(), strict=True)
        ]
        assert shown == [(*pair, pairs[pair]) for pair in sorted(pairs)]


def test_pairs_of_many_blocks_are_added_up_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_counts, "PAIRS_AT_ONCE", 200)
    random, table, added = np.random.default_rng(1), pair_counts.PairCounts(5), 0
    for _ in range(20):
        key = random.integers(0, 2000, 300)
        behavior = random.integers(0, 5, 300).astype(np.int32)
        added += len(set(zip(key.tolist(), behavior.tolist(), strict=True)))
        table.add(key, behavior)
    most: list[int] = []
    added_up = pair_counts._added_up

    def watched(pairs: pair_counts.Pairs, behaviors: int) -> pair_counts.Pairs:
        most.append(len(pairs.key))
        return added_up(pairs, behaviors)

    monkeypatch.setattr(pair_counts, "_added_up", watched)
    list(table.whole())
    assert sum(most) == added  # each once
    assert max(most) <= 1.5 * 200


def test_of_a_log_its_numbers_are_held_by_files() -> None:
    found = timeline_arrays(random_table(6, users=6), NAMES)
    for name in ("behavior", "user_start", "is_target", "split", "context"):
        assert isinstance(getattr(found, name).base, np.memmap)


class Watched(np.ndarray):
    """An array that tells which of its rows were read, as often as they were."""

    read: list[int]

    def __getitem__(self, asked: Any) -> Any:
        self.read += np.arange(len(self))[asked].ravel().tolist()
        return np.asarray(self)[asked]


def watched(timelines: TimelineArrays) -> tuple[TimelineArrays, list[int]]:
    """The same, and which rows' behaviors were read so far."""
    behavior = timelines.behavior.view(Watched)
    behavior.read = []
    return replace(timelines, behavior=behavior), behavior.read


def test_of_a_log_only_the_past_of_the_rows_asked_for_is_read() -> None:
    timelines = timeline_arrays(random_table(5, users=40), NAMES)
    asked = np.flatnonzero(timelines.is_target)[[400, 3, 401]]
    past = {row for end in asked for row in range(timelines.user_start[end], end)}
    assert len(past) < len(timelines.behavior) / 4
    told, read = watched(timelines)
    past_counts(told, asked)
    assert set(read) == past
    for part, inside, places in told.pasts_of(asked):
        assert part.behavior[inside].tolist() == timelines.behavior[asked[places]].tolist()
    assert set(read) == past | set(asked.tolist())


@pytest.mark.parametrize("users", [1, 20])
def test_what_is_read_of_a_log_grows_as_it_does_also_where_it_is_of_one_user(
    monkeypatch: pytest.MonkeyPatch, users: int
) -> None:
    monkeypatch.setattr(blocks, "ROWS_PER_BLOCK", 100)
    read = []
    for events in (2_000, 4_000):
        random, rows = np.random.default_rng(events), np.arange(events)
        each = events // users
        timelines, of_log = watched(
            TimelineArrays(
                random.integers(-1, 5, events).astype(np.int32),
                rows // each * each,
                rows % each > 0,
                np.searchsorted([0.8, 0.9], rows % each / each, side="right").astype(np.int8),
                random.integers(0, 3, events).astype(np.int32),
                5,
                contexts=3,
            )
        )
        fit_baselines(timelines)
        read.append(len(of_log))
    assert 1.9 < read[1] / read[0] <= 2**1.05


@given(st.integers(0, 10_000), st.sampled_from([7, 50, 1_000]))
def test_of_recency_one_long_timeline_is_read_once_and_what_each_block_looks_back_on(
    seed: int, rows: int
) -> None:
    events, looked_at = 1_000, recency.EVENTS
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(blocks, "ROWS_PER_BLOCK", rows)
        random = np.random.default_rng(seed)
        zeros = np.zeros(events, np.int64)
        behavior = random.integers(-1, 6, events).astype(np.int32)
        of_one = TimelineArrays(behavior, zeros, zeros == 0, zeros.astype(np.int8), zeros.astype(np.int32), 6)
        read: list[int] = []
        pasts_of = TimelineArrays.pasts_of

        def counted(*asked: Any) -> Any:
            for part, inside, places in pasts_of(*asked):
                read.append(len(part.behavior))
                yield part, inside, places

        patched.setattr(TimelineArrays, "pasts_of", counted)
        for block in of_one.training_blocks():
            whole = [
                list(dict.fromkeys(of for of in behavior[max(0, row - looked_at) : row][::-1] if of >= 0))
                for row in block
            ]
            found = recency.recent_behaviors(of_one, block)
            assert [[of for of in row if of >= 0] for row in found.tolist()] == whole
        assert sum(read) <= events + looked_at * len(read) and len(read) <= -(-events // rows)
        assert max(read) <= rows + looked_at


@pytest.mark.parametrize("rows", [1, 50, 100_000])
def test_weights_of_a_large_log_are_chosen_on_whole_timelines_that_are_some_of_all(
    monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    timelines = timeline_arrays(random_table(5, users=40), NAMES)
    monkeypatch.setattr(blocks, "ROWS_PER_BLOCK", rows)
    every, _ = weights.tuning_rows(timelines)
    targets = timelines.target_rows(1)
    np.testing.assert_array_equal(every, targets[timelines.behavior[targets] >= 0])
    monkeypatch.setattr(weights, "MOST_TARGETS", len(every))
    np.testing.assert_array_equal(weights.tuning_rows(timelines)[0], every)
    monkeypatch.setattr(weights, "MOST_TARGETS", len(every) // 4)
    some, _ = weights.tuning_rows(timelines)
    assert len(every) / 8 < len(some) < len(every) / 2
    step = -(-len(every) // (len(every) // 4))
    starts = list(dict.fromkeys(timelines.user_start[every].tolist()))[::step]
    assert some.tolist() == [row for row in every.tolist() if timelines.user_start[row] in starts]
