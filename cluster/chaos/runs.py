"""The run that is disturbed: how it is started, interrupted at a moment, and started again until it ends."""

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from cluster.chaos.machines import NOTICE_SECONDS, Machines, kill, machines
from cluster.chaos.matrix import STAGES, Case
from cluster.chaos.outcome import Outcome, difference, read_outcome
from cluster.chaos.proxy import TrippingProxy, Tripwire, tripping_proxy
from cluster.local_cluster import ROOT

BUCKET = "chaos"
NAME = "chaos"
USERS = 40
STARTS = 4
"""How often a run is started until it counts as not resumed (our choice)."""

RUN_SECONDS = 400.0
"""How long one start may take (our choice)."""

SMALLER: dict[str, Any] = {
    "name": NAME,
    "a_tuning.max_steps": 14,
    "b_tuning.max_steps": 8,
    "difficulty.max_per_behavior": 8,
    "evaluation.arms": ["ab_tuned"],
    "evaluation.max_samples": 60,
    "evaluation.max_validation_samples": 20,
    "evaluation.truth": None,
    "evaluation.cloze": None,
    "preparation.min_partitions": 2,
    "execution.tuning.checkpoint_every_steps": 2,
    "execution.tuning.progress_every_seconds": 0,
    "execution.allow_unauthenticated_cluster": True,
}
"""The demo, in less time, on a cluster that lives as long as the cases."""


@dataclass
class Chaos:
    """All that cases share. State: the machines, and the proxy's tripwire."""

    folder: Path
    proxy: TrippingProxy
    machines: Machines
    expected: Outcome

    def run(self, case: Case) -> dict[str, Any]:
        """One case, from the stage that it is about; what came of it."""
        started = time.monotonic()
        self.machines.complete()
        root = f"s3://{BUCKET}/{case.name}-{case.seed}"
        _copy_stages_before(case.moment.stage, f"{case.name}-{case.seed}")
        wire = Tripwire(case.pattern, case.number)
        self.proxy.tripwire = wire
        log = self.folder / "logs" / f"{case.name}-{case.seed}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        killed: list[int] = []
        starts = 0
        with log.open("wb") as stream:
            for starts in range(1, STARTS + 1):
                driver = self._start(root, stream)
                killer = threading.Thread(target=self._kill, args=(case, wire, driver, killed), daemon=True)
                if starts == 1:
                    killer.start()
                status = _wait(driver)
                if starts == 1:
                    wire.tripped.set()  # should it never have come
                    killer.join()
                    self.proxy.tripwire = None
                if status == 0:
                    break
                self.machines.complete()
        row: dict[str, Any] = {"name": case.name, "seed": case.seed, "killed": bool(killed)}
        row |= {"resumed": status == 0, "starts": starts, "request": wire.path}
        found = read_outcome(root, NAME) if status == 0 else Outcome({}, {})
        return row | difference(found, self.expected) | {"seconds": round(time.monotonic() - started)}

    def _start(self, root: str, stream: Any) -> subprocess.Popen[bytes]:
        values = SMALLER | _inputs(self.folder / "world") | {"storage.root": root}
        command = [sys.executable, "-m", "jobs.run", "--config", "jobs/configs/demo.yaml"]
        command += [f"--{key}={json.dumps(value)}" for key, value in values.items()]
        environment = os.environ | {"RAY_ADDRESS": self.machines.address}
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=stream, stderr=subprocess.STDOUT)

    def _kill(self, case: Case, wire: Tripwire, driver: subprocess.Popen[bytes], killed: list[int]) -> None:
        """Wait for the moment and kill; the request that marks it is held back meanwhile."""
        wire.tripped.wait()
        if not wire.path:
            return
        chosen = case.random.randrange(1000)
        try:
            if case.victim == "driver":
                killed += kill(driver.pid)
            elif case.victim == "raylet":
                killed += self.machines.kill_node(chosen)
            elif case.victim == "drained_node":
                self.machines.give_notice(chosen)
                wire.released.set()  # work goes on until the notice is over
                time.sleep(NOTICE_SECONDS)
                is_running = driver.poll() is None
                gone = self.machines.kill_node(chosen)
                killed += gone if is_running else []
            else:
                killed += self.machines.kill_process(case.victim, chosen)
        finally:
            wire.released.set()
        self.machines.complete()


@contextmanager
def chaos(folder: Path) -> Iterator[Chaos]:
    """An S3 server, a proxy, a cluster and the outcome of an undisturbed run, for the block."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    short = Path(tempfile.mkdtemp(prefix="blm-", dir="/tmp"))  # paths of sockets lie below it
    try:
        with tripping_proxy(f"http://{host}:{port}") as proxy:
            os.environ |= _aws(proxy.endpoint)  # before the cluster, whose workers need it too
            boto3.client("s3").create_bucket(Bucket=BUCKET)
            with machines(short) as cluster:
                made = Chaos(folder, proxy, cluster, Outcome({}, {}))
                made.expected = _undisturbed(made)
                yield made
    finally:
        server.stop()
        shutil.rmtree(short, ignore_errors=True)


def _undisturbed(made: Chaos) -> Outcome:
    """Make the log, run once, and read what came of it. Raises RuntimeError if it failed."""
    world = made.folder / "world"
    if not world.exists():
        command = [sys.executable, "-m", "jobs.world", "--folder", str(world), "--users", str(USERS)]
        subprocess.run(command, cwd=ROOT, check=True)
    root = f"s3://{BUCKET}/undisturbed"
    log = made.folder / "undisturbed.log"
    with log.open("wb") as stream:
        status = _wait(made._start(root, stream))
    if status != 0:
        raise RuntimeError(f"the undisturbed run failed with exit status {status}: {log}")
    outcome = read_outcome(root, NAME)
    if set(outcome.samples) != {"a_tune", "b_tune", "score"} or not all(outcome.samples.values()):
        raise RuntimeError(f"the undisturbed run left no samples to compare with: {sorted(outcome.samples)}")
    return outcome


def _wait(driver: subprocess.Popen[bytes]) -> int:
    """Its exit status; a run that takes too long is killed."""
    try:
        return driver.wait(RUN_SECONDS)
    except subprocess.TimeoutExpired:
        driver.kill()
        return driver.wait()


def _inputs(world: Path) -> dict[str, Any]:
    return {
        "events.paths": [str(world / "log" / "*.jsonl.gz")],
        "auxiliary.0.paths": [str(world / "everyday.jsonl.gz")],
        "auxiliary.1.paths": [str(world / "school.jsonl.gz")],
    }


def _copy_stages_before(stage: str, prefix: str) -> None:
    """Begin where the stage begins: the finished stages before it, from the undisturbed run."""
    client = boto3.client("s3")
    before = tuple(f"undisturbed/stages/{name}-" for name in STAGES[: STAGES.index(stage)])
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="undisturbed/stages/")
    for key in [found["Key"] for page in pages for found in page.get("Contents", [])]:
        if key.startswith(before):
            copied = f"{prefix}/{key.partition('/')[2]}"
            client.copy_object(Bucket=BUCKET, Key=copied, CopySource={"Bucket": BUCKET, "Key": key})


def _aws(endpoint: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "chaos",
        "AWS_SECRET_ACCESS_KEY": "chaos",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
