"""What networks see of a log: codes, windows, and each training target once an epoch."""

from dataclasses import replace

import numpy as np
import pytest

from behaviorlm.opponents.windows import (
    BEGINNING,
    FIRST,
    NEW_VALUE,
    UNSEEN,
    coded_log,
    evenly,
    fitting_rows,
    training_chunks,
    windows_until,
)
from behaviorlm.timelines.splits import TEST
from tests.behaviorlm.opponents.logs_with_order import log_with_order


def test_codes_tell_behaviors_and_every_column_of_context_apart() -> None:
    timelines = log_with_order()
    log = coded_log(timelines)
    rows = np.arange(log.rows)
    first = np.flatnonzero(timelines.user_start == rows)
    assert (log.previous(first) == BEGINNING).all()
    others = np.setdiff1d(rows, first)
    assert np.array_equal(log.previous(others[:, None]), log.behavior(others - 1)[:, None])
    known = timelines.behavior >= 0
    assert set(log.behavior(rows[~known]).tolist()) == {UNSEEN}
    assert np.array_equal(log.behavior(rows[known]), timelines.behavior[known] + FIRST)
    values = [timelines.context_values[code] for code in timelines.context]
    for column, of_column in enumerate(zip(*values, strict=True)):
        pairs = set(zip(of_column, log.context(rows)[:, column].tolist(), strict=True))
        assert len(pairs) == len({value for value, _ in pairs}) == len({code for _, code in pairs})
    assert log.sizes == (2 + 3, 2 + 2)


def test_a_value_of_context_that_no_training_target_has_is_a_new_one() -> None:
    timelines = log_with_order()
    mondays = [code for code, values in enumerate(timelines.context_values) if values[0] == "Mon"]
    is_monday = np.isin(timelines.context, mondays)
    log = coded_log(replace(timelines, split=np.where(is_monday, TEST, timelines.split)))
    codes = log.context(np.arange(log.rows))[:, 0]
    assert (codes[is_monday] == NEW_VALUE).all() and (codes[~is_monday] > NEW_VALUE).all()


@pytest.mark.parametrize("length", [1, 2, 5, 16])
def test_each_training_target_is_once_among_a_windows_own_and_sees_half_a_window(length: int) -> None:
    timelines = log_with_order()
    log = coded_log(timelines)
    train, _ = fitting_rows(timelines)
    is_train = np.isin(np.arange(log.rows), train)
    seen: list[int] = []
    cuts = set()
    for epoch in range(3):
        chunks = training_chunks(log, train, length, np.random.default_rng(epoch))
        windows = windows_until(log, chunks.last, length)
        cuts.add(tuple(chunks.last.tolist()))
        own = windows.is_there & (windows.rows >= chunks.first[:, None]) & is_train[windows.rows]
        seen += windows.rows[own].tolist()
        for window, there, of_window in zip(windows.rows, windows.is_there, own, strict=True):
            rows = window[there]
            assert np.array_equal(rows, np.arange(rows[0], rows[-1] + 1))
            assert len(set(timelines.user_start[rows].tolist())) == 1
            shown = np.flatnonzero(of_window[there]) + 1
            all_there = rows[shown - 1] - timelines.user_start[rows[0]] + 1
            assert (shown >= np.minimum(all_there, (length + 1) // 2)).all()
    assert np.array_equal(np.sort(seen), np.repeat(train, 3))
    assert length <= 2 or len(cuts) == 3  # half a window of one row can be cut in one way only


def test_training_and_validation_targets_are_those_of_known_behaviors_that_few_shots_leave() -> None:
    timelines = log_with_order()
    train, validation = fitting_rows(timelines)
    for split, rows in ((0, train), (1, validation)):
        expected = [
            row
            for row in range(len(timelines.behavior))
            if timelines.is_target[row] and timelines.split[row] == split and timelines.behavior[row] >= 0
        ]
        assert rows.tolist() == expected
    assert evenly(train, 10**6) is train
    taken = evenly(train, 7)
    assert len(set(taken.tolist())) == 7 and {int(train[0]), int(train[-1])} <= set(taken.tolist())
