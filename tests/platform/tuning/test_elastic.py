"""Tuning on nodes that come and go: one worker, then three, then notice that two machines go, then one worker again."""

import functools
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pytest
import torch.distributed as dist

from behaviorlm.trees.token_tree import TokenTree
from behaviorlm_ray.tuning import checkpoint_writer
from behaviorlm_ray.tuning.config import TuningConfig, TuningExecution
from behaviorlm_ray.tuning.worker import TuningTask, tune_rank
from tests.platform.tuning_runs import (
    ToySchedule,
    assert_each_sample_once,
    dying_schedule,
    lineage_of,
    relative_distance,
    run_workers,
    toy_schedule,
    toy_task,
    trained_parameters,
    tune_without_ray,
)

STEPS = (4, 5, 1, 3, 2, 4) * 8
CONFIG = TuningConfig(learning_rate=0.01, clip_norm=0.5)
GROW, SHRINK = 20, 22
"""A checkpoint is due every GROW steps: before there are more workers, and then not before the machines are gone."""


def _wait_for(checkpoint: Path) -> None:
    """A minute at most: a busy machine writes slowly, and no other is begun meanwhile."""
    patience = time.monotonic() + 60
    while not checkpoint.exists() and time.monotonic() < patience:
        time.sleep(0.05)


def _tune_with_notice(task: TuningTask) -> None:
    """Notice comes after the third step, and stays; the machine lasts until its checkpoint is written."""
    asked: list[None] = []

    def preempted() -> bool:
        asked.append(None)
        if len(asked) == 4:
            _wait_for(Path(str(task.checkpoint_folder)) / "step-00000003")
        return len(asked) >= 3

    tune_rank(task, lambda metrics: None, preempted)


def _tune_with_long_notice(task: TuningTask) -> None:
    """Notice comes after the third step; it is long enough for more checkpoints by the clock of worker 0 alone."""
    checkpoint_writer.NOTICE_CHECKPOINT_SECONDS = 0.2 if dist.get_rank() == 0 else 1e9
    asked: list[None] = []

    def preempted() -> bool:
        asked.append(None)
        if len(asked) > 3:
            _wait_for(Path(str(task.checkpoint_folder)) / f"step-{len(asked) - 1:08d}")
            time.sleep(0.3)
        return len(asked) >= 3

    tune_rank(task, lambda metrics: None, preempted)


def test_notice_makes_one_checkpoint_at_once_from_which_the_next_attempt_goes_on(tmp_path: Path) -> None:
    steps = (4, 5, 1, 3, 2, 4)
    execution = TuningExecution(zero_stage=1, checkpoint_every_steps=100, progress_every_seconds=0)
    task = toy_task(
        tmp_path,
        open_schedule=dying_schedule(steps, 5, tmp_path / "died", 0),
        execution=execution,
        config=CONFIG,
    )
    assert run_workers(_tune_with_notice, 1, task) != [0]
    assert (tmp_path / "died").exists()
    kept = [path.name for path in (tmp_path / "checkpoints").glob("step-*")]
    assert kept == ["step-00000003"]  # not one after each further step
    assert tune_without_ray(task, 1) == [0]
    assert_each_sample_once(tmp_path / "output" / "lineage.jsonl", steps)


def test_a_long_notice_makes_more_checkpoints_whenever_worker_0_says_so(tmp_path: Path) -> None:
    steps = (4, 5, 1, 3, 2, 4)
    execution = TuningExecution(checkpoint_every_steps=100, keep_checkpoints=9, progress_every_seconds=0)
    task = toy_task(
        tmp_path,
        open_schedule=dying_schedule(steps, 5, tmp_path / "died", fatal_rank=1),
        execution=execution,
        config=CONFIG,
    )
    assert 0 not in run_workers(_tune_with_long_notice, 2, task)
    assert (tmp_path / "died").exists()
    kept = {path.name for path in (tmp_path / "checkpoints").glob("step-*")}
    assert {"step-00000003", "step-00000004"} <= kept  # the one after step 5 may have been cut off


@dataclass(frozen=True)
class ElasticSchedule(ToySchedule):
    """Fewer than three workers wait before step GROW for three; these tell at step SHRINK, and then are slow.

    So slow that the next periodic checkpoint, after step 2 * GROW, is not reached before the machines are gone.
    """

    folder: Path = Path()

    def packs(self, step: int) -> list[TokenTree]:
        if dist.is_initialized() and dist.get_rank() == 0:
            complete = dist.get_world_size() == 3
            while not complete and step == GROW and not (self.folder / "grown").exists():
                (self.folder / "waits").touch()
                time.sleep(0.1)
            if complete and step >= SHRINK:
                (self.folder / "grown").touch()
                time.sleep(3)
        return super().packs(step)


def elastic_schedule(steps: Sequence[int], folder: Path) -> Callable[[], ElasticSchedule]:
    return functools.partial(ElasticSchedule, tuple(steps), folder=folder)


DRIVER = """
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ray
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

from behaviorlm_ray.tuning.config import TuningConfig, TuningExecution
from behaviorlm_ray.tuning.trainer import tune
from tests.platform.tuning.test_elastic import GROW, elastic_schedule
from tests.platform.tuning_runs import toy_task

folder, config, steps = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
cluster = Cluster(
    initialize_head=True,
    head_node_args={
        "num_cpus": 1, "include_dashboard": False, "temp_dir": sys.argv[4], "dashboard_port": int(sys.argv[5]),
    },
)
ray.init(address=cluster.address)


def tune_on_what_there_is():
    execution = TuningExecution(
        workers=3, min_workers=1, checkpoint_every_steps=GROW, max_failures=0, resize_every_seconds=2,
        progress_every_seconds=0,
    )
    schedule = elastic_schedule(steps, folder)
    chosen = TuningConfig.model_validate_json(config)
    return tune(toy_task(folder, open_schedule=schedule, config=chosen, execution=execution))


def wait_for(name):
    while not (folder / name).exists():
        assert not tuned.done(), tuned.result()
        time.sleep(0.2)


# A machine can be added from the main thread only, as it handles signals.
tuned = ThreadPoolExecutor(1).submit(tune_on_what_there_is)
wait_for("waits")
added = [cluster.add_node(num_cpus=1) for _ in range(2)]
print("grown", flush=True)
wait_for("grown")
reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
deadline = time.time() + 20
for node in added:
    client = ray._raylet.GcsClient(address=cluster.address)
    accepted, problem = client.drain_node(node.node_id, reason, "taken back", int(deadline * 1000))
    assert accepted, problem
print("notice given", flush=True)
time.sleep(max(0, deadline - time.time()))
for node in added:
    cluster.remove_node(node, allow_graceful=False)
print("gone", flush=True)
result = tuned.result(timeout=400)
(folder / "loss.json").write_text(json.dumps(result.loss))
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_one_three_and_one_worker_use_each_sample_once_and_end_where_two_fixed_ones_do(
    tmp_path: Path,
) -> None:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port = opened.getsockname()[1]
    ray_folder = tempfile.mkdtemp(prefix="blm-", dir="/tmp")  # short: paths of sockets lie below it
    arguments = [str(tmp_path), CONFIG.model_dump_json(), json.dumps(STEPS), ray_folder, str(port)]
    path = os.pathsep.join([os.getcwd(), os.path.join(os.getcwd(), "platform")])
    environment = os.environ | {
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": "1",
        "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",
        "RAY_raylet_start_wait_time_s": "120",  # the machine may be busy
    }
    driver = subprocess.run(
        [sys.executable, "-c", DRIVER, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(driver.stdout)
    assert driver.returncode == 0, driver.stdout[-6000:]

    lineage = tmp_path / "output" / "lineage.jsonl"
    assert_each_sample_once(lineage, STEPS)
    lines = lineage_of(lineage)
    workers = [count for count, _ in groupby(line["workers"] for line in lines)]
    assert workers[0] == 1 and 3 in workers and workers[-1] == 1, workers

    # With no failure allowed at all, only the notice's own budget let it go on, from a checkpoint of the notice: by
    # the steps alone, there is none between GROW and twice as many.
    noticed = [int(step) for step in re.findall(r"checkpoint after step (\d+) before it does", driver.stdout)]
    resumed = [int(step) for step in re.findall(r"continuing from .* \(after step (\d+)\)", driver.stdout)]
    assert resumed[0] == GROW < resumed[-1] < 2 * GROW, (resumed, noticed)
    assert resumed[-1] in noticed, (resumed, noticed)

    fixed = toy_task(tmp_path / "fixed", open_schedule=toy_schedule(STEPS), config=CONFIG)
    assert tune_without_ray(fixed, 2) == [0, 0]
    curve = (tmp_path / "fixed" / "output" / "loss.jsonl").read_text().splitlines()
    loss = json.loads((tmp_path / "loss.json").read_text())
    assert loss == pytest.approx(json.loads(curve[-1])["loss"], abs=1e-3)
    distance = relative_distance(
        trained_parameters(tmp_path / "output"), trained_parameters(tmp_path / "fixed" / "output")
    )
    assert distance < 1e-3
