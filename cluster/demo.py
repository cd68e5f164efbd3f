"""The demo on a cluster that grows and shrinks, on one machine: `make cluster-demo`.

    python -m cluster.demo [--root FOLDER or s3://…] [--small] [--search] [--folder runs/cluster-demo]

Starts an S3 endpoint (moto, in memory) unless the root is a folder or AWS_ENDPOINT_URL names another one; starts a head
with Ray's real autoscaler (cluster/local.yaml); submits the making of the log, copies log and texts below the root, and
submits the demo by `ray job submit`; counts nodes meanwhile; waits until the cluster is back to its head, and ends what
it started. Leaves results.json (the demo's) and cluster.json (nodes over time and by stage) in the folder. With
--search it submits the demo's search instead, and leaves its summary.json. The last line says whether it went well.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from cluster.local_cluster import RAY, ROOT, LocalCluster, local_cluster

HEAD_ALONE_SECONDS = 300.0
"""How long the cluster may take to be back to its head."""

USERS, FEW_USERS = 360, 100
SMALLER = {
    "evaluation.arms": ["untuned", "a_tuned", "ab_tuned"],
    "evaluation.max_samples": 200,
    "evaluation.max_validation_samples": 60,
    "execution.scoring_actors": 3,
    "execution.tuning.workers": 2,
}


@dataclass
class NodeCounts:
    """Alive nodes over time; state: what was seen so far."""

    cluster: LocalCluster
    started: float = field(default_factory=time.time)
    samples: list[dict[str, float]] = field(default_factory=list)

    def take(self) -> int:
        """Count now. Returns the number of nodes, the head included."""
        from ray.autoscaler.v2.sdk import get_cluster_status  # after the token is in the environment

        status = get_cluster_status(self.cluster.gcs)
        nodes = len(status.active_nodes) + len(status.idle_nodes)
        if not self.samples or self.samples[-1]["nodes"] != nodes:
            self.samples.append({"seconds": round(time.time() - self.started, 1), "nodes": nodes})
        return nodes

    def most_between(self, start: float, end: float) -> int:
        """The most nodes in a span of seconds since the epoch."""
        first = max((s["seconds"] for s in self.samples if s["seconds"] <= start - self.started), default=0.0)
        inside = [s["nodes"] for s in self.samples if first <= s["seconds"] <= end - self.started]
        return int(max(inside, default=0))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it. Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "cluster-demo")
    parser.add_argument("--root", default="s3://cluster-demo/runs", help="storage.root of the run")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--small", action="store_true", help="fewer users and arms than `make demo`: sooner done"
    )
    what.add_argument(
        "--search", action="store_true", help="jobs/configs/search/demo.yaml instead of one run"
    )
    options = parser.parse_args(arguments)
    folder = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with s3_endpoint(options.root):
        problem = _run(folder, options.root, small=options.small or options.search, search=options.search)
    if problem:
        print(f"cluster demo failed: {problem}")
        return 1
    print(f"cluster demo done: {folder / _result(options.search).name}, {folder / 'cluster.json'}")
    return 0


@contextmanager
def s3_endpoint(root: str) -> Iterator[None]:
    """An endpoint with the root's bucket in this process's environment, unless none is needed or one is named."""
    if not root.startswith("s3://") or "AWS_ENDPOINT_URL" in os.environ:
        yield
        return
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "demo",
        "AWS_SECRET_ACCESS_KEY": "demo",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    try:
        boto3.client("s3").create_bucket(Bucket=root.removeprefix("s3://").partition("/")[0])
        yield
    finally:
        server.stop()
        del os.environ["AWS_ENDPOINT_URL"]


def _result(search: bool) -> PurePosixPath:
    """What is left under the root."""
    return PurePosixPath("search_demo/summary.json" if search else "demo/results.json")


def _run(folder: Path, root: str, *, small: bool, search: bool) -> str:
    """What went wrong, or nothing."""
    with local_cluster() as cluster:
        for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"):  # read once, when Ray is imported
            os.environ[name] = cluster.environment[name]
        counts = NodeCounts(cluster)
        counts.take()
        world = folder / "world"
        users = FEW_USERS if small else USERS
        inputs = demo_inputs(f"{root}/world") | {"storage.root": root}
        if search:
            work = ["jobs.search", "--config", "jobs/configs/search/demo.yaml", *_options(inputs, "run.")]
        else:
            values = inputs | SMALLER if small else inputs
            work = ["jobs.run", "--config", "jobs/configs/demo.yaml", *_options(values)]
        making = ["jobs.world", "--folder", str(world), "--users", str(users)]
        problem = _submit(cluster, making, counts)
        if not problem:
            _copy(world, f"{root}/world")
            problem = _submit(cluster, work, counts)
        if problem:
            _write(folder, counts, root)
            return problem
        print("waiting until the cluster is back to its head")
        deadline = time.monotonic() + HEAD_ALONE_SECONDS
        while counts.take() > 1 and time.monotonic() < deadline:
            time.sleep(2)
        summary = _write(folder, counts, root)
    result = _result(search)
    (folder / result.name).write_bytes(_read(root, str(result)))
    if summary["final"] != 1:
        return f"{summary['final']} nodes are left after {HEAD_ALONE_SECONDS:.0f} s"
    if summary["most"] == 1:
        return "the cluster never grew"
    return ""


def demo_inputs(world: str) -> dict[str, Any]:
    """Keys of the demo's configuration: its inputs, in a folder or under a prefix."""
    return {
        "events.paths": [f"{world}/log/*.jsonl.gz"],
        "auxiliary.0.paths": [f"{world}/everyday.jsonl.gz"],
        "auxiliary.1.paths": [f"{world}/school.jsonl.gz"],
        "evaluation.cloze": f"{world}/cloze.jsonl",
    }


def _copy(folder: Path, destination: str) -> None:
    """All files of a folder, to where every node reads them."""
    from behaviorlm_ray import storage

    for path in storage.list_files(folder):
        storage.write_replacing(storage.location(destination) / path, (folder / path).read_bytes())


def _options(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    return [f"--{prefix}{key}={json.dumps(value)}" for key, value in values.items()]


def _submit(cluster: LocalCluster, job: list[str], counts: NodeCounts) -> str:
    """Submit a job, show what it prints and count nodes until it ends. Returns what went wrong, or nothing."""
    command = [str(RAY), "job", "submit", "--address", cluster.dashboard, "--working-dir", "."]
    command += ["--runtime-env", "jobs/runtime_env.yaml", "--", "python", "-m", *job]
    process = subprocess.Popen(command, cwd=ROOT, env=cluster.environment)
    while process.poll() is None:
        counts.take()
        time.sleep(1)
    return f"{job[0]} ended with exit status {process.returncode}" if process.returncode else ""


def _write(folder: Path, counts: NodeCounts, root: str) -> dict[str, Any]:
    """Write cluster.json. Returns it."""
    nodes = [int(sample["nodes"]) for sample in counts.samples]
    stages = {}
    for manifest in _manifests(root):
        start = datetime.fromisoformat(manifest["started"]).timestamp()
        stages[manifest["stage"]] = counts.most_between(start, start + manifest["duration_seconds"])
    summary = {"samples": counts.samples, "most": max(nodes), "final": nodes[-1], "most_by_stage": stages}
    (folder / "cluster.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
    return summary


def _manifests(root: str) -> Iterator[dict[str, Any]]:
    from behaviorlm_ray import storage

    for path in storage.list_files(storage.location(root) / "stages"):
        if path.endswith("/manifest.json") and path.count("/") == 1:
            yield json.loads(_read(root, f"stages/{path}"))


def _read(root: str, path: str) -> bytes:
    from behaviorlm_ray import storage

    content = storage.read_bytes(storage.location(root) / path)
    if content is None:
        raise FileNotFoundError(f"{root}/{path}")
    return content


if __name__ == "__main__":
    sys.exit(main())
