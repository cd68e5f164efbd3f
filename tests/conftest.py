"""What tests share: a Ray of their own, and hypothesis without deadlines (the machine may be busy)."""

import gc
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.marks import is_heavy, is_heavy_file, is_heavy_folder

ROOT = Path(__file__).resolve().parents[1]

settings.register_profile(
    "behaviorlm", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("behaviorlm")

# Before Ray is imported by anyone: its authentication mode is read once, and a token that lies in the home of
# whoever runs the tests must not matter.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# Before torch is: models of tests are tiny, and threads that wait for each other cost more than all else where several
# processes share few cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

NO_RAY = "/dev/null/only-a-test-marked-ray-may-start-Ray"
"""Ray keeps its sessions below this folder in tests without the mark, where none can be made."""

WORKER_ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "platform")]),
    "OMP_NUM_THREADS": "1",
    "DS_ACCELERATOR": "cpu",
    "RAY_AUTH_MODE": "disabled",
    "TOKENIZERS_PARALLELISM": "false",
}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Of a run without what is heavy, heavy files are not even imported: that takes longer than their neighbors."""
    if "not heavy" not in (config.option.markexpr or "").split(" and "):
        return None
    if collection_path.is_dir():
        return is_heavy_folder(collection_path) or None
    return (collection_path.name.startswith("test_") and is_heavy_file(collection_path)) or None


gc.disable()  # while test modules bring in the libraries, whose objects stay


def pytest_collection_finish() -> None:
    """From now on garbage is collected, but not looked for among what the libraries brought."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)  # unknown where pytest-xdist is switched off
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests of a file run in one process, as its fixtures are made once a process; so do all that need Ray, of which
    one runs at a time, and all other tests of tuning, whose workers are forked from a server that takes seconds to
    start.
    """
    from xdist.scheduler import LoadGroupScheduling

    class Scheduling(LoadGroupScheduling):
        def _split_scope(self, nodeid: str) -> str:
            group: str = super()._split_scope(nodeid)  # the name of the test where it has none
            file = group.partition("::")[0]
            return "tuning" if "platform/tuning/" in file else file

    return Scheduling(config, log)


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Who uses the session's Ray is marked `ray`; who starts a Ray of its own says so itself. `heavy` is told where it
    is asked for.
    """
    asks_for_heavy = "heavy" in (config.option.markexpr or "")
    for item in items:
        if asks_for_heavy and is_heavy(item):
            item.add_marker("heavy")
        if "ray_cluster" in getattr(item, "fixturenames", ()):
            item.add_marker("ray")
        if item.get_closest_marker("ray"):
            item.add_marker(pytest.mark.xdist_group("ray"))


@pytest.fixture(autouse=True)
def _no_ray_without_the_mark(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Without the mark no test starts Ray, in this process or in another: such tests run side by side."""
    if request.node.get_closest_marker("ray"):
        yield
        return
    before = _is_ray_running()
    monkeypatch.setenv("RAY_TMPDIR", NO_RAY)
    yield
    assert _is_ray_running() == before, "a test that starts Ray is marked ray"


def _is_ray_running() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


def _collecting_seldom() -> Callable[[], None]:
    """What a worker does first, as in a job: a function within one, which Ray sends whole, without this module."""

    def set_up() -> None:
        gc.set_threshold(100_000)  # its libraries load in four fifths of the time

    return set_up


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A Ray of this session's own with 4 logical CPUs; workers can import the project and the tests."""
    import ray

    from behaviorlm_ray.cluster.connection import HUB_VARIABLES

    # Short, because the path of a Unix socket below it may have 107 characters at most.
    folder = tempfile.mkdtemp(prefix="blm-", dir="/tmp")
    with pytest.MonkeyPatch.context() as patch:
        for name in HUB_VARIABLES:
            patch.delenv(name, raising=False)  # a job that knows them tells its workers
        ray.init(
            address="local",
            num_cpus=4,
            num_gpus=0,
            include_dashboard=False,
            object_store_memory=300 * 1024**2,
            _temp_dir=folder,
            runtime_env={"env_vars": WORKER_ENVIRONMENT, "worker_process_setup_hook": _collecting_seldom()},
        )
    try:
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB where a test may mount one; elsewhere a folder, and /dev/full stands in."""
    folder = tmp_path / "full_disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if shutil.which("mount"):
        subprocess.run(command, capture_output=True, check=False)
    yield folder
    if folder.is_mount():
        subprocess.run(["umount", str(folder)], check=True)
