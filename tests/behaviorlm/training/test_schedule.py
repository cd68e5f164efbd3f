"""The order of samples: the same as a plain walk along the queue gives, and as cheap for few timelines as for many."""

import sys
from collections import Counter, deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behaviorlm.training.chunks import Chunk
from behaviorlm.training.schedule import SampleSchedule, schedule_samples, step_count, steps_per_epoch
from tests.behaviorlm.training.chunk_arrays import chunks_of as in_arrays

Written = list[list[tuple[int, tuple[int, int], list[int]]]]


def plain_schedule(
    chunks: list[Chunk], per_step: int, cap: int, epochs: float, max_steps: int | None, seed: int
) -> tuple[Written, list[int], int]:
    """Steps, epochs and how often the cap was exceeded: every step walks along all that is left."""
    total = sum(len(chunk.rows) for chunk in chunks)
    wanted = step_count(total, per_step, epochs, max_steps)
    sizes = [len(part) for part in np.array_split(np.arange(total), steps_per_epoch(total, per_step))]
    steps: Written = []
    epoch_of: list[int] = []
    exceeded = epoch = 0
    while len(steps) < wanted:
        order = np.random.default_rng([seed, epoch]).permutation(len(chunks))
        queue = deque((chunks[i].part, chunks[i].timeline, chunks[i].rows.tolist()) for i in order)
        for room in sizes[: wanted - len(steps)]:
            step: list[tuple[int, tuple[int, int], list[int]]] = []
            passed_over: deque[tuple[int, tuple[int, int], list[int]]] = deque()
            used: Counter[tuple[int, int]] = Counter()
            while room:
                over = not queue
                part, timeline, rows = (passed_over if over else queue).popleft()
                allowed = room if over else min(room, cap - used[timeline])
                if allowed <= 0:
                    passed_over.append((part, timeline, rows))
                    continue
                step.append((part, timeline, rows[:allowed]))
                used[timeline] += len(rows[:allowed])
                room -= len(rows[:allowed])
                exceeded += over * len(rows[:allowed])
                if rows[allowed:]:
                    passed_over.append((part, timeline, rows[allowed:]))
            queue.extendleft(reversed(passed_over))
            steps.append(step)
            epoch_of.append(epoch)
        epoch += 1
    return steps, epoch_of, exceeded


def written(schedule: SampleSchedule) -> tuple[Written, list[int], int]:
    steps = [
        [(chunk.part, chunk.timeline, chunk.rows.tolist()) for chunk in schedule.chunks(step)]
        for step in range(len(schedule))
    ]
    assert schedule.all_samples().tolist() == [schedule.samples(step) for step in range(len(schedule))]
    return steps, schedule.epochs, schedule.cap_exceeded


def chunks_of(sizes: list[tuple[int, int]]) -> list[Chunk]:
    """Chunks of (timeline, samples) each, with rows of their own; every third timeline lies in another part."""
    starts = np.cumsum([0, *(size for _, size in sizes)])
    return [
        Chunk(timeline % 3, (timeline % 3, timeline), np.arange(start, start + size, dtype=np.int64))
        for (timeline, size), start in zip(sizes, starts, strict=False)
    ]


@given(
    sizes=st.integers(1, 12).flatmap(
        lambda timelines: st.lists(
            st.tuples(st.integers(0, timelines - 1), st.integers(1, 9)), min_size=1, max_size=60
        )
    ),
    per_step=st.integers(1, 40),
    cap=st.integers(0, 12),
    epochs=st.floats(0.1, 3.5),
    max_steps=st.none() | st.integers(1, 30),
    seed=st.integers(0, 2**32),
)
def test_the_schedule_is_that_of_a_plain_walk_along_the_queue(
    sizes: list[tuple[int, int]],
    per_step: int,
    cap: int,
    epochs: float,
    max_steps: int | None,
    seed: int,
) -> None:
    chunks = chunks_of(sizes)
    schedule = schedule_samples(
        in_arrays(chunks),
        samples_per_step=per_step,
        max_per_timeline=cap,
        epochs=epochs,
        max_steps=max_steps,
        seed=seed,
    )
    assert written(schedule) == plain_schedule(chunks, per_step, cap, epochs, max_steps, seed)


class TooManyCallsError(Exception):
    """Raised from within what is measured, so that a walk over all that is left does not run for an hour."""


def calls_to_schedule(chunks: list[Chunk], limit: int) -> int:
    """Function calls, those of C included, for steps of 64 with a cap of 2 for each timeline; unlike time, exact."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")
        if calls > limit:
            raise TooManyCallsError(f"more than {limit} calls")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        schedule = schedule_samples(
            in_arrays(chunks), samples_per_step=64, max_per_timeline=2, epochs=1, max_steps=None, seed=0
        )
    finally:
        sys.setprofile(before)
    assert sum(map(schedule.samples, range(len(schedule)))) == sum(len(chunk.rows) for chunk in chunks)
    return calls


@pytest.mark.parametrize("timelines", [1, 10, 31])
def test_few_timelines_of_very_many_samples_take_work_that_grows_with_the_samples(timelines: int) -> None:
    """With fewer than samples_per_step / cap timelines every step reaches the cap of all of them."""
    samples = 60_000
    chunks = chunks_of([(number % timelines, 4) for number in range(samples // 4)])
    few = calls_to_schedule(chunks[: len(chunks) // 4], limit=20 * samples // 4)
    assert calls_to_schedule(chunks, limit=20 * samples) < 4.5 * few
