"""How often checkpoints are made: as lost steps and checkpoints together cost least; and what a resume makes of it."""

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from behaviorlm.training.schedule import SampleSchedule, schedule_samples
from behaviorlm_ray.tuning import checkpoint_pace, sharded_state, worker
from behaviorlm_ray.tuning.checkpoint_pace import CheckpointPace, steps_between
from behaviorlm_ray.tuning.checkpoint_writer import CheckpointWriter
from behaviorlm_ray.tuning.checkpoints import newest_checkpoint
from behaviorlm_ray.tuning.config import TuningExecution
from behaviorlm_ray.tuning.optimizer_step import StepOutcome
from tests.behaviorlm.training.chunk_arrays import chunks_of
from tests.behaviorlm.training.test_schedule import chunks_of as sized_chunks
from tests.platform.tuning_runs import toy_task


@pytest.fixture(scope="module", autouse=True)
def alone() -> Iterator[None]:
    """A process group of one."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def cost(interval: float, checkpoint: float, failure: float) -> float:
    """Share of the time that checkpoints and, of each failure, half an interval take."""
    return checkpoint / interval + interval / 2 / failure


@given(
    step=st.floats(0.01, 30),
    checkpoint=st.floats(0.01, 60),
    failure=st.floats(60, 1e5),
    other=st.floats(0.1, 10),
)
def test_no_other_interval_costs_less_but_for_the_rounding_to_steps(
    step: float, checkpoint: float, failure: float, other: float
) -> None:
    steps = steps_between(step, checkpoint, failure)
    best = (2 * checkpoint * failure) ** 0.5
    assert abs(steps * step - best) <= step / 2 or steps == 1
    assert cost(best, checkpoint, failure) <= cost(best * other, checkpoint, failure) + 1e-12


def test_the_pace_follows_what_steps_and_checkpoints_take(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = 0.0
    monkeypatch.setattr(checkpoint_pace.time, "monotonic", lambda: moment)
    pace = CheckpointPace(TuningExecution(failure_every_seconds=100.0), 7, torch.device("cpu"))
    moment += 4.0
    assert pace.is_due(8)
    with pace.timed(8):
        moment += 2.0  # sqrt(2 * 2 * 100) = 20 seconds, five steps
    assert next(steps for steps in range(9, 20) if pace.is_due(steps)) == 13
    moment += 5 * 1.0
    with pace.timed(13):
        moment += 0.5  # sqrt(2 * .5 * 100) = 10 seconds, ten steps of one second
    assert next(steps for steps in range(14, 40) if pace.is_due(steps)) == 23


@pytest.mark.parametrize("first", [0, 3, 5, 10])
def test_a_fixed_number_of_steps_is_counted_from_the_first_of_the_run(first: int) -> None:
    pace = CheckpointPace(TuningExecution(checkpoint_every_steps=5), first, torch.device("cpu"))
    made = []
    for steps in range(first + 1, 23):
        if pace.is_due(steps):
            with pace.timed(steps):
                made.append(steps)
    assert made == [steps for steps in (5, 10, 15, 20) if steps > first]


class KilledError(Exception):
    """In place of the end of a process."""


@dataclass(frozen=True)
class Plan:
    """A real schedule of samples, as a tuning sees it."""

    samples: SampleSchedule

    part_names = ("samples",)

    def __len__(self) -> int:
        return len(self.samples)

    def packs(self, step: int) -> list[int]:
        return [row for chunk in self.samples.chunks(step) for row in chunk.rows.tolist()]


@dataclass
class Weights:
    """In place of an engine: how often each sample was learned."""

    learned: torch.Tensor
    work = None
    device = torch.device("cpu")


class NoProgress:
    """In place of what is shown."""

    def __init__(self, *_: Any) -> None: ...

    def show(self, *_: Any) -> None: ...

    def close(self) -> None: ...


class RunStep:
    """In place of an optimizer step: counts what it is given, and kills at the n-th call."""

    def __init__(self, samples: int, until_kill: int | None) -> None:
        self._samples, self._until_kill, self._calls = samples, until_kill, itertools.count()

    def __call__(self, engine: Weights, packs: list[int], step: int, steps: int) -> StepOutcome:
        if next(self._calls) == self._until_kill:
            raise KilledError
        engine.learned += torch.bincount(torch.tensor(packs), minlength=self._samples)
        return StepOutcome(0.0, [0.0], len(packs), 1, *[0.1] * 3)


def learned_through_kills(
    folder: Path, plan: Plan, samples: int, every: int | None, kills: list[int]
) -> Weights:
    """Tune to the end with the loop, writer and checkpoints of a real run; the n-th step of each start kills it."""
    execution = TuningExecution(checkpoint_every_steps=every, keep_checkpoints=1)
    task, left = toy_task(folder, execution=execution), iter(kills)
    while True:
        found = newest_checkpoint(task.checkpoint_folder, {}, print)
        start = torch.zeros(samples) if found is None else found.read("parameter", "learned")
        engine, until_kill = Weights(start.clone()), next(left, None)
        worker.run_step = RunStep(samples, until_kill)  # type: ignore[assignment]
        records = [] if found is None else found.records
        try:
            with CheckpointWriter(task.checkpoint_folder, 1, {}, found) as writer:
                worker._train(task, plan, engine, records, writer, lambda _: None, lambda: False)  # type: ignore[arg-type]
        except KilledError:
            continue
        assert [record["step"] for record in records] == list(range(len(plan)))
        return engine


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6)), min_size=1, max_size=12),
    per_step=st.integers(1, 9),
    epochs=st.sampled_from([1.0, 2.0, 2.5, 3.0]),
    every=st.none() | st.integers(1, 7),
    kills=st.lists(st.integers(0, 9), max_size=4),
    at_boundary=st.booleans(),
    seed=st.integers(0, 99),
)
def test_whatever_is_killed_when_each_epoch_is_learned_once(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    sizes: list[tuple[int, int]],
    per_step: int,
    epochs: float,
    every: int | None,
    kills: list[int],
    at_boundary: bool,
    seed: int,
) -> None:
    monkeypatch.setattr(worker, "run_step", worker.run_step)
    monkeypatch.setattr(worker, "Progress", NoProgress)
    monkeypatch.setattr(worker, "operations", lambda *_: 0.0)
    monkeypatch.setattr(
        sharded_state, "gather", lambda engine: {"parameter": {"learned": engine.learned.clone()}}
    )
    monkeypatch.setattr(sharded_state, "fragments", lambda engine: [])
    samples = sum(size for _, size in sizes)
    schedule = schedule_samples(
        chunks_of(sized_chunks(sizes)),
        samples_per_step=per_step,
        max_per_timeline=2,
        epochs=epochs,
        max_steps=None,
        seed=seed,
    )
    boundary = schedule.epochs.count(0)
    if at_boundary:  # a checkpoint there, and nothing after it
        every, kills = boundary, [boundary, *kills]
    weights = learned_through_kills(tmp_path_factory.mktemp("run"), Plan(schedule), samples, every, kills)
    whole = Counter(schedule.epochs)
    expected = np.zeros(samples)
    for step, epoch in enumerate(schedule.epochs):
        if whole[epoch] < boundary:  # the beginning of an epoch
            for chunk in schedule.chunks(step):
                expected[chunk.rows] += 1
    expected += sum(count == boundary for count in whole.values())
    assert weights.learned.tolist() == expected.tolist()
