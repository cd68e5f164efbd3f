"""Tunings through Ray Train one after another: who carries them out, and what becomes of workers that stay."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from behaviorlm.errors import ClusterError, ModelError
from behaviorlm.model.tree_model import TreeModel
from behaviorlm_ray.cluster.kept import make_room
from behaviorlm_ray.tuning.config import TuningConfig, TuningExecution
from behaviorlm_ray.tuning.trainer import tune
from behaviorlm_ray.tuning.worker import TuningTask
from tests.platform.tuning_runs import (
    assert_each_sample_once,
    dying_schedule,
    halting_schedule,
    toy_model,
    toy_schedule,
    toy_task,
)

STEPS = (4, 5, 1, 3)
CONFIG = TuningConfig(learning_rate=0.01, clip_norm=0.5)


@dataclass(frozen=True)
class _Noting:
    """Notes the process in which a model is built; fails if asked to."""

    folder: Path
    fails: bool = False

    def __call__(self) -> TreeModel:
        (self.folder / f"built-in-{os.getpid()}").touch()
        if self.fails:
            raise ModelError("no model")
        return toy_model()


def _task(folder: Path, **changes: Any) -> TuningTask:
    folder.mkdir(exist_ok=True)
    settings: dict[str, Any] = {
        "build_model": _Noting(folder),
        "open_schedule": toy_schedule(STEPS),
        "config": CONFIG,
        "execution": TuningExecution(workers=2, checkpoint_every_steps=1, progress_every_seconds=0),
    }
    return toy_task(folder, **(settings | changes))


def _processes(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("built-in-*")}


def _weights(folder: Path) -> str:
    return hashlib.sha256((folder / "output/model/trained.safetensors").read_bytes()).hexdigest()


@pytest.fixture(autouse=True)
def _no_crew_before_and_after(ray_cluster: None) -> Iterator[None]:
    make_room()
    yield
    make_room()


def test_a_fit_that_cannot_begin_is_told_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TRAIN_V2_ENABLED", "0")
    told: list[str] = []

    def attempt() -> None:
        with pytest.raises(ClusterError) as caught:
            tune(_task(tmp_path / "run"))
        told.append(str(caught.value))

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(60)
    assert told and "RAY_TRAIN_V2_ENABLED" in told[0]


@pytest.mark.slow
def test_further_tunings_start_no_process_until_workers_fail_or_a_tuning_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker, temporary = tmp_path / "died", tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    dying = dying_schedule(STEPS, 2, marker, fatal_rank=1)
    tune(_task(tmp_path / "first"))
    tune(_task(tmp_path / "second"))
    assert _processes(tmp_path / "second") == _processes(tmp_path / "first")
    assert len(_processes(tmp_path / "first")) == 2
    assert _weights(tmp_path / "second") == _weights(tmp_path / "first")

    killed = tune(_task(tmp_path / "killed", open_schedule=dying))  # in the midst of its third step
    assert marker.exists()
    assert _processes(tmp_path / "killed") > _processes(tmp_path / "first")
    assert_each_sample_once(killed.lineage, STEPS)
    assert _weights(tmp_path / "killed") == _weights(tmp_path / "first")

    tune(_task(tmp_path / "after_it"))
    assert not _processes(tmp_path / "after_it") & _processes(tmp_path / "killed")

    with pytest.raises(ModelError, match="no model"):
        tune(_task(tmp_path / "failed", build_model=_Noting(tmp_path / "failed", fails=True)))
    assert _processes(tmp_path / "failed") == _processes(tmp_path / "after_it")
    tune(_task(tmp_path / "last"))
    assert not _processes(tmp_path / "last") & _processes(tmp_path / "failed")
    make_room()
    assert not list(temporary.iterdir())  # nothing stays that another user of this machine could not write to


@pytest.mark.slow
def test_ctrl_c_ends_the_workers_and_the_next_call_goes_on(tmp_path: Path) -> None:
    run, reached = tmp_path / "run", tmp_path / "reached"
    os.mkfifo(reached)

    def interrupt() -> None:
        assert reached.read_text() == "here"  # worker 0 is about to run step 2, and stays there
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        tune(_task(run, open_schedule=halting_schedule(STEPS, 2, reached)))
    interrupted = _processes(run)
    assert len(interrupted) == 2
    deadline = time.monotonic() + 120
    while any(Path(f"/proc/{name.rpartition('-')[2]}").exists() for name in interrupted):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    result = tune(_task(run))
    assert_each_sample_once(result.lineage, STEPS)
    assert _processes(run) > interrupted


TWO_RAYS = """
import sys

import ray

from behaviorlm_ray.tuning.config import TuningExecution
from behaviorlm_ray.tuning.crew import Crew

options = {"address": "local", "num_cpus": 1, "include_dashboard": False, "_temp_dir": sys.argv[1]}
execution = TuningExecution(workers=1)
ray.init(**options)
crew = Crew(execution)
ray.shutdown()
ray.init(**options)
assert not crew.is_fit_for(execution)
crew.close()
"""


@pytest.mark.slow
def test_a_crew_of_another_ray_of_this_process_is_left_alone() -> None:
    folder = tempfile.mkdtemp(prefix="blm-", dir="/tmp")  # short: paths of sockets lie below it
    path = os.pathsep.join([os.getcwd(), os.path.join(os.getcwd(), "platform")])
    command = [sys.executable, "-c", TWO_RAYS, folder]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, check=True, timeout=200)
    shutil.rmtree(folder, ignore_errors=True)
