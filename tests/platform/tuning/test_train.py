"""Tuning through Ray Train: workers and drivers are killed, and the run comes out as if nothing happened."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from ray.train.v2._internal.constants import ENV_VARS_TO_PROPAGATE

from behaviorlm.errors import BehaviorLMError, ClusterError, ConfigError, DataError, ModelError
from behaviorlm.model.tree_model import TreeModel
from behaviorlm.trees.token_tree import TokenTree
from behaviorlm_ray.tuning.config import TuningConfig, TuningExecution
from behaviorlm_ray.tuning.crew import START_SECONDS, START_TIMEOUT, start_patience
from behaviorlm_ray.tuning.optimizer_step import NotFiniteError
from behaviorlm_ray.tuning.trainer import tune
from behaviorlm_ray.tuning.worker import TuningTask, tune_rank
from tests.platform.tuning_runs import (
    SAMPLES_PER_PACK,
    ToySchedule,
    assert_each_sample_once,
    dying_schedule,
    lineage_of,
    relative_distance,
    run_workers,
    toy_model,
    toy_schedule,
    toy_task,
    trained_parameters,
    tune_without_ray,
)

STEPS = (4, 5, 1, 3, 2, 4)
CONFIG = TuningConfig(learning_rate=0.01, clip_norm=0.5)


def reference(folder: Path) -> Path:
    """The same run with two workers, without Ray and without interruption."""
    task = toy_task(folder, open_schedule=toy_schedule(STEPS), config=CONFIG)
    assert tune_without_ray(task, 2) == [0, 0]
    return folder / "output"


def test_ray_train_is_told_to_wait_for_machines_unless_fewer_workers_would_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert START_TIMEOUT in ENV_VARS_TO_PROPAGATE  # what Ray reads, and hands on to its controller
    monkeypatch.delenv(START_TIMEOUT, raising=False)
    with start_patience(TuningExecution(workers=3)):
        assert os.environ[START_TIMEOUT] == str(START_SECONDS)
    with start_patience(TuningExecution(workers=3, min_workers=1)):
        assert START_TIMEOUT not in os.environ
    monkeypatch.setenv(START_TIMEOUT, "5")
    with start_patience(TuningExecution(workers=3)):
        assert os.environ[START_TIMEOUT] == "5"
    assert os.environ[START_TIMEOUT] == "5"


def test_tuning_without_a_cluster_is_refused_by_name(tmp_path: Path) -> None:
    import ray

    if ray.is_initialized():  # by an earlier test of this session; then there is nothing to refuse
        return
    with pytest.raises(ClusterError, match=r"ray\.init"):
        tune(
            toy_task(
                tmp_path,
                open_schedule=toy_schedule(STEPS),
                config=CONFIG,
                execution=TuningExecution(),
            )
        )


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_the_run_ends_in_the_same_weights(tmp_path: Path) -> None:
    marker = tmp_path / "died"
    result = tune(
        toy_task(
            tmp_path,
            open_schedule=dying_schedule(STEPS, 4, marker, fatal_rank=1),
            config=CONFIG,
            execution=TuningExecution(workers=2, checkpoint_every_steps=1, progress_every_seconds=0),
        )
    )
    assert marker.exists()
    assert result.steps == len(STEPS)
    assert result.samples == sum(STEPS) * SAMPLES_PER_PACK
    assert_each_sample_once(result.lineage, STEPS)
    uninterrupted = trained_parameters(reference(tmp_path / "reference"))
    assert relative_distance(trained_parameters(tmp_path / "output"), uninterrupted) < 1e-6


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_loss_that_is_not_finite_comes_back_as_our_error(tmp_path: Path) -> None:
    with pytest.raises(NotFiniteError, match="learning_rate"):
        tune(
            toy_task(
                tmp_path,
                open_schedule=toy_schedule(STEPS),
                config=TuningConfig(learning_rate=1e30, clip_norm=0.0),
                execution=TuningExecution(workers=1),
            )
        )


def open_or_fail(tried: Path, error: type[BehaviorLMError], ranks: tuple[int, ...]) -> TreeModel:
    """Notes that it was asked for the model, and has none on some workers."""
    rank = dist.get_rank()
    with (tried / f"worker-{rank}").open("a", encoding="utf-8") as file:
        file.write("asked\n")
    if rank in ranks:
        raise error(f"{error.__name__} of worker {rank}")
    return toy_model()


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])  # of two without Ray: below
@pytest.mark.usefixtures("ray_cluster")
def test_what_every_worker_meets_is_told_at_once_and_not_tried_again(tmp_path: Path, workers: int) -> None:
    with pytest.raises(ModelError, match=r"^ModelError of worker [01]$"):
        tune(
            toy_task(
                tmp_path,
                build_model=functools.partial(open_or_fail, tmp_path, ModelError, (0, 1)),
                open_schedule=toy_schedule(STEPS),
                config=CONFIG,
                execution=TuningExecution(workers=workers, max_failures=3),
            )
        )
    asked = [path.read_text(encoding="utf-8") for path in sorted(tmp_path.glob("worker-*"))]
    assert asked == ["asked\n"] * workers


@dataclass(frozen=True)
class GreedySchedule(ToySchedule):
    """Worker 1 notes that it is asked for a step, and asks for more memory than any machine has."""

    tried: Path = Path()

    def packs(self, step: int) -> list[TokenTree]:
        if dist.get_rank() == 1 and step == 1:
            with self.tried.open("a", encoding="utf-8") as file:
                file.write("asked\n")
            torch.empty(2**50)
        return super().packs(step)


@pytest.mark.slow  # over a minute: Ray Train waits for the worker that is left
@pytest.mark.usefixtures("ray_cluster")
def test_full_memory_on_one_worker_ends_tuning_at_once_and_names_the_key(tmp_path: Path) -> None:
    with pytest.raises(
        ClusterError, match=r"out of memory on worker 1 .*max_tokens \(2048; a_tuning\.max_tokens"
    ):
        tune(
            toy_task(
                tmp_path,
                open_schedule=functools.partial(GreedySchedule, STEPS, tried=tmp_path / "tried"),
                config=CONFIG,
                execution=TuningExecution(workers=2, max_failures=3),
            )
        )
    assert (tmp_path / "tried").read_text(encoding="utf-8") == "asked\n"


def expect_failure(task: TuningTask, error: type[BehaviorLMError], told: str) -> None:
    with pytest.raises(BehaviorLMError, match=told) as raised:
        tune_rank(task, lambda metrics: None)
    assert type(raised.value) is error


@pytest.mark.parametrize("error", [ConfigError, DataError, ModelError])
def test_what_only_some_workers_meet_ends_all_of_them_as_a_failure_to_try_again(
    tmp_path: Path, error: type[BehaviorLMError]
) -> None:
    for ranks, raised, told in (
        ((0, 1), error, "of worker"),
        ((1,), ClusterError, r"(?s)1 of 2 workers.*worker 1: "),
    ):
        task = toy_task(tmp_path, build_model=functools.partial(open_or_fail, tmp_path, error, ranks))
        assert run_workers(expect_failure, 2, task, raised, told) == [0, 0]


DRIVER = """
import json
import sys
from pathlib import Path
import ray
from behaviorlm_ray.tuning.config import TuningConfig, TuningExecution
from behaviorlm_ray.tuning.crew import START_SECONDS, START_TIMEOUT, start_patience
from behaviorlm_ray.tuning.trainer import tune
from tests.platform.tuning_runs import halting_schedule, toy_task

folder, config, steps, halt = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4])
ray.init(address="local", num_cpus=4, include_dashboard=False, _temp_dir=sys.argv[5])
schedule = halting_schedule(steps, halt, folder / "reached")
execution = TuningExecution(workers=2, checkpoint_every_steps=1)
config = TuningConfig.model_validate_json(config)
tune(toy_task(folder, open_schedule=schedule, config=config, execution=execution))
"""


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_killed_driver_is_continued_by_the_next_call_with_another_number_of_workers(tmp_path: Path) -> None:
    reached = tmp_path / "reached"
    os.mkfifo(reached)
    ray_folder = tempfile.mkdtemp(prefix="blm-", dir="/tmp")  # short: paths of sockets lie below it
    arguments = [str(tmp_path), CONFIG.model_dump_json(), json.dumps(STEPS), "4", ray_folder]
    path = os.pathsep.join([os.getcwd(), os.path.join(os.getcwd(), "platform")])
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, *arguments],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )
    assert reached.read_text() == "here"  # blocks until worker 0 is about to run step 4
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    shutil.rmtree(ray_folder, ignore_errors=True)
    result = tune(
        toy_task(
            tmp_path,
            open_schedule=toy_schedule(STEPS),
            config=CONFIG,
            execution=TuningExecution(workers=3, checkpoint_every_steps=1),
            attempt="second",
        )
    )
    assert_each_sample_once(result.lineage, STEPS)
    lines = lineage_of(result.lineage)
    assert (lines[0]["workers"], lines[-1]["workers"]) == (2, 3)
    uninterrupted = trained_parameters(reference(tmp_path / "reference"))
    assert relative_distance(trained_parameters(tmp_path / "output"), uninterrupted) < 1e-4
