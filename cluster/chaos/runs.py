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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from cluster.chaos.machines import NOTICE_SECONDS, Machines, kill, machines
from cluster.chaos.matrix import STAGES, Case
from cluster.chaos.outcome import Outcome, difference, read_outcome
from cluster.chaos.proxy import TrippingProxy, Tripwire, Tripwires, tripping_proxy
from cluster.local_cluster import ROOT

BUCKET = "chaos"
NAME = "chaos"
USERS = 40
STARTS = 4
"""How often a run is started until it counts as not resumed, further to once for each kill (our choice)."""

RUN_SECONDS, KILL_SECONDS = 400.0, 60.0
"""How long one start may take, and how much longer for each kill that it may have to live through (our choice)."""

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

    def run(self, cases: Sequence[Case]) -> list[dict[str, Any]]:
        """One run, from the stage of the first case on, through the kills of all of them; what came of it, by case.

        What is missing from the run counts against each of its cases.
        """
        started = time.monotonic()
        self.machines.complete()
        name = f"{cases[0].name}-{cases[0].seed}-{len(cases)}"
        root = f"s3://{BUCKET}/{name}"
        _copy_stages_before(cases[0].moment.stage, name)
        log = self.folder / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        timeouts = 0
        with log.open("wb") as stream:
            kills = Kills(cases, self, self._start(root, stream))
            limit = RUN_SECONDS + len(cases) * KILL_SECONDS
            status, starts = _wait(kills.driver, self.machines, limit), 1
            while status != 0 and starts < STARTS + len(cases):
                timeouts += status is None
                kills.driver = self._start(root, stream)
                status, starts = _wait(kills.driver, self.machines, limit), starts + 1
            kills.end()
        found = read_outcome(root, NAME) if status == 0 else Outcome({}, {})
        of_run = {"resumed": status == 0, "starts": starts, "timeouts": timeouts + (status is None)}
        of_run |= difference(found, self.expected) | {"seconds": round(time.monotonic() - started)}
        return [{"name": case.name, "seed": case.seed} | row | of_run for case, row in kills.rows.items()]

    def _start(self, root: str, stream: Any) -> subprocess.Popen[bytes]:
        values = SMALLER | _inputs(self.folder / "world") | {"storage.root": root}
        command = [sys.executable, "-m", "jobs.run", "--config", "jobs/configs/demo.yaml"]
        command += [f"--{key}={json.dumps(value)}" for key, value in values.items()]
        environment = os.environ | {"RAY_ADDRESS": self.machines.address}
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=stream, stderr=subprocess.STDOUT)


class Kills:
    """A thread that kills at the moment of each case in turn. State: the run's driver, and what was killed.

    rows: "killed", "request" and, if killing failed, "error", by case; none for a case whose moment never came.
    """

    def __init__(self, cases: Sequence[Case], chaos: "Chaos", driver: subprocess.Popen[bytes]) -> None:
        self.driver = driver
        self.rows: dict[Case, dict[str, Any]] = {}
        self._chaos = chaos
        self._wires = {case: Tripwire(case.pattern, case.number, case.phase) for case in cases}
        chaos.proxy.tripwires = self._tripwires = Tripwires(list(self._wires.values()))
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """The run is over: wait for no further moment."""
        self._chaos.proxy.tripwires = Tripwires([])
        for wire in self._wires.values():
            wire.tripped.set()
        self._thread.join()

    def _work(self) -> None:
        for case, wire in self._wires.items():
            wire.tripped.wait()
            while wire.path and case not in self.rows:
                try:
                    self._handle(case, wire)
                except Exception as error:  # told in the row; the run and its other cases go on
                    self.rows[case] = {"killed": False, "request": wire.path, "error": repr(error)}
                    self._release(wire)
                wire.tripped.wait()

    def _handle(self, case: Case, wire: Tripwire) -> None:
        if case.victim == "driver" and self.driver.poll() is not None:
            self._release(wire, again=True)  # a request of a dead driver's workers
            return
        killed = self._kill(case, wire)
        self.rows[case] = {"killed": bool(killed), "request": wire.path}
        self._release(wire)

    def _release(self, wire: Tripwire, again: bool = False) -> None:
        """Let the request go, to be lost, and wait for the next wire from now on; or for this one again."""
        if wire.released.is_set():
            return
        wire.released.set()
        if again:
            wire.released = threading.Event()
        self._tripwires.go_on(wire if again else None)

    def _kill(self, case: Case, wire: Tripwire) -> list[int]:
        """Kill, while the request that marks the moment is held back. Returns the dead processes."""
        chosen = case.random.randrange(1000)
        machines, driver = self._chaos.machines, self.driver
        if case.victim == "driver":
            return kill(driver.pid)
        if case.victim == "raylet":
            return machines.kill_node(machines.choose_node(chosen))
        if case.victim != "drained_node":
            return machines.kill_process(case.victim, chosen)
        node = machines.choose_node(chosen)  # by then another place of the list may be meant
        machines.give_notice(node)
        self._release(wire)  # work goes on until the notice is over
        time.sleep(NOTICE_SECONDS)
        is_running = driver.poll() is None
        gone = machines.kill_node(node, had_notice=True)
        return gone if is_running else []


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
        status = _wait(made._start(root, stream), made.machines)
    if status != 0:
        raise RuntimeError(f"the undisturbed run failed with exit status {status}: {log}")
    outcome = read_outcome(root, NAME)
    if set(outcome.samples) != {"a_tune", "b_tune", "score"} or not all(outcome.samples.values()):
        raise RuntimeError(f"the undisturbed run left no samples to compare with: {sorted(outcome.samples)}")
    return outcome


def _wait(driver: subprocess.Popen[bytes], machines: Machines, seconds: float = RUN_SECONDS) -> int | None:
    """Its exit status; None for a run that took too long and was killed for it. Nodes that are lost are replaced."""
    deadline = time.monotonic() + seconds
    while driver.poll() is None:
        machines.complete()
        if time.monotonic() > deadline:
            driver.kill()
            driver.wait()
            return None
        time.sleep(0.1)
    return driver.returncode


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
