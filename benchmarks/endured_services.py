"""What `serve_endurance` puts load on and disturbs: processes of the service, or replicas of Ray Serve."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import psutil

from behaviorlm.config import load_settings
from behaviorlm.service.settings import ServeSettings

STARTING = 120.0
ENDING = 40.0
NOT_OF_THE_APP = "500 in plain text"
"""What a server says where its app said nothing; Ray's proxy does where a replica dies that was answering."""


class Processes:
    """Two processes that serve what a link names; ended ones are started again. problems: what they did wrong."""

    events = ("a kill", "an end", "another model")
    forgiven: tuple[str, ...] = ()

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = list(folders)
        self.problems: list[str] = []
        self.ports: list[int] = []
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self._link = Path(tempfile.mkdtemp()) / "served"
        self._link.symlink_to(self._folders[0])
        for _ in range(2):
            process, port = self._started(0)
            self._running.append(process)
            self.ports.append(port)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running:
            process.terminate()
        for process in self._running:
            self._check_end(process)
        self._link.unlink()
        self._link.parent.rmdir()

    def let(self, event: str, random: np.random.Generator) -> None:
        """Let something happen, and put right what it broke."""
        if event == "another model":
            self._folders.reverse()
            new = self._link.with_name("new")
            new.symlink_to(self._folders[0])
            new.replace(self._link)
            for process in self._running:
                process.send_signal(signal.SIGHUP)
            return
        place = int(random.integers(2))
        process = self._running[place]
        if event == "a kill":
            process.kill()
            process.wait()
        else:
            process.terminate()
            self._check_end(process)
        self._running[place], _ = self._started(self.ports[place])

    def _check_end(self, process: subprocess.Popen[bytes]) -> None:
        try:
            status = process.wait(ENDING)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        if status:
            self.problems.append(f"a process that was told to end ended with {status}")

    def _started(self, port: int) -> tuple[subprocess.Popen[bytes], int]:
        log = tempfile.NamedTemporaryFile(prefix="serve-", suffix=".log")  # noqa: SIM115
        process = subprocess.Popen(
            [sys.executable, "-m", "jobs.serve", f"--model={self._link}", f"--port={port}"],
            env={key: value for key, value in os.environ.items() if key != "BEHAVIORLM_TOKEN"},
            stderr=log,
        )
        deadline = time.monotonic() + STARTING
        while not (found := re.search(r"running on http://127\.0\.0\.1:(\d+)", Path(log.name).read_text())):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the service did not start: {Path(log.name).read_text()}")
            time.sleep(0.1)
        return process, int(found[1])


class Replicas:
    """Two replicas of Ray Serve on a Ray of this process's own; Ray replaces those that are killed."""

    events = ("a kill", "another model")
    forgiven = (NOT_OF_THE_APP,)
    port = 8797

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = list(folders)
        self.problems: list[str] = []
        self.ports = [self.port]

    def __enter__(self) -> Self:
        import ray
        from ray import serve

        ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
        serve.start(http_options={"host": "127.0.0.1", "port": self.port})
        self._deploy()
        return self

    def __exit__(self, *_: object) -> None:
        import ray
        from ray import serve

        serve.shutdown()
        ray.shutdown()

    def let(self, event: str, random: np.random.Generator) -> None:
        """Let something happen. Ray puts right what it broke."""
        if event == "another model":
            self._folders.reverse()
            self._deploy()
            return
        replicas = [process for process in psutil.Process().children(recursive=True) if _is_replica(process)]
        if not replicas:
            self.problems.append("no replica was there to be killed")
            return
        replicas[int(random.integers(len(replicas)))].kill()

    def _deploy(self) -> None:
        from ray import serve

        from behaviorlm_ray.serving.deployment import NAME, bound

        keys: dict[str, Any] = {"model": str(self._folders[0]), "port": self.port, "ray": True}
        keys["ray_serve"] = {"replicas": 2, "cpus": 1}
        serve.run(bound(load_settings(ServeSettings, None, data=keys)), name=NAME)


def _is_replica(process: psutil.Process) -> bool:
    try:
        return "ServeReplica" in " ".join(process.cmdline())
    except psutil.Error:
        return False
