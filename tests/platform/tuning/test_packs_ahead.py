"""Packs made one step ahead are those of the schedule, in its order; what fails comes up at its step."""

import dataclasses
import threading
from contextlib import closing

import numpy as np
import pytest

from behaviorlm.errors import DataError
from behaviorlm_ray.tuning.packs_ahead import steps_ahead
from tests.platform.tuning_runs import ToySchedule


def test_the_packs_of_the_schedule_come_in_order_and_none_is_made_beyond_the_stop() -> None:
    schedule, made = ToySchedule((4, 5, 1, 3, 2)), []

    def make(step: int) -> list:
        made.append(step)
        return schedule.packs(step)

    found = list(steps_ahead(make, 1, 4))
    assert [step for step, _ in found] == made == [1, 2, 3]
    for step, packs in found:
        for one, other in zip(packs, schedule.packs(step), strict=True):
            for field in dataclasses.fields(one):
                np.testing.assert_equal(getattr(one, field.name), getattr(other, field.name))
    assert list(steps_ahead(make, 4, 4)) == [] and made == [1, 2, 3]


def test_the_next_is_made_while_a_step_runs_and_no_further_one() -> None:
    begun = [threading.Event() for _ in range(4)]
    with closing(steps_ahead(lambda step: begun[step].set(), 0, 4)) as ahead:
        next(ahead)
        assert begun[1].wait(60)
        next(ahead)
        assert begun[2].wait(60) and not begun[3].is_set()


def test_an_error_comes_up_unchanged_where_its_step_is_asked_for() -> None:
    error = DataError("of step 2")

    def make(step: int) -> int:
        if step == 2:
            raise error
        return step

    run = []
    with pytest.raises(DataError) as raised:
        for step, _ in steps_ahead(make, 0, 4):
            run.append(step)
    assert raised.value is error and run == [0, 1]


def test_steps_that_end_early_leave_no_thread() -> None:
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError), closing(steps_ahead(lambda step: step, 0, 9)) as ahead:
        for step, _ in ahead:
            _ = 1 / (2 - step)
    assert threading.active_count() == before
