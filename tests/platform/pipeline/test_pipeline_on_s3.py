"""The whole pipeline with everything on S3 gives what it gives on local folders, also where S3 fails for a while."""

import gzip
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behaviorlm_ray import storage
from behaviorlm_ray.storage import Location, S3Location
from tests.platform.s3_faults import FaultyProxy
from tests.platform.small_runs import log_rows, write_conversations, write_log

SCRIPT = """
import json, sys
import ray
from behaviorlm.errors import BehaviorLMError
from behaviorlm_ray.pipeline.evaluate import evaluate
from behaviorlm_ray.pipeline.input_checks import check_inputs
from behaviorlm_ray.pipeline.run import open_run
from behaviorlm_ray.report.results import write_results
from tests.platform.small_runs import run_settings

base, ray_folder, *places = sys.argv[1:]
ray.init(address="local", num_cpus=4, include_dashboard=False, object_store_memory=300 * 1024**2, _temp_dir=ray_folder)
for place in places:
    place, _, is_broken = place.partition(" ")
    talk = f"[{{name: talk, paths: ['{place}/in/talk.jsonl'], ratio: 0.25, weight: 0.5, max_tokens: 64}}]"
    overrides = (f"auxiliary={talk}", "execution.scoring_actors=1", f"storage.root={place}/runs",
                 "execution.tuning.checkpoint_every_steps=1", f"events.paths=['{place}/in/*.csv.gz']")
    if is_broken:
        overrides = (*overrides, "name=broken", f"events.paths=['{place}/in/broken.csv']")
    run = open_run(run_settings("unused", base, overrides=overrides))
    runner = run.runner()
    try:
        check_inputs(run, is_written=True)
        runner.run(evaluate(run))
    except BehaviorLMError as error:
        if not is_broken:
            raise
        print("BROKEN", error, flush=True)
        continue
    report = write_results(run, runner).place
    outputs = runner.named(evaluate(run))
    stages = {name: [output.manifest.fingerprint, output.reused] for name, output in outputs.items()}
    print("RESULT " + json.dumps({"report": str(report), "stages": stages}), flush=True)
"""
pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
]  # whole runs, on a machine that may be busy


@dataclass(frozen=True)
class Ran:
    """A process with runs, one after another. `logs`: everything that Ray logged meanwhile, by file."""

    returncode: int
    output: str
    results: list[dict[str, Any]]
    logs: dict[str, bytes]
    token: str


def run_pipelines(base: Path, places: Sequence[str], folder: Path) -> Ran:
    """Run the pipeline at each place in turn, in a Ray of their own that asks for a token. Nothing is left behind."""
    ray_folder = tempfile.mkdtemp(prefix="blm-", dir="/tmp")  # short: paths of sockets lie below it
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    token = secrets.token_hex(32)
    path = os.pathsep.join([os.getcwd(), os.path.join(os.getcwd(), "platform")])
    changed = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(base), ray_folder, *places],
        env=os.environ | changed | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token},
        cwd=elsewhere,
        capture_output=True,
        text=True,
        check=False,
    )
    logs = {str(file): file.read_bytes() for file in Path(ray_folder).rglob("logs/**/*") if file.is_file()}
    shutil.rmtree(ray_folder, ignore_errors=True)
    assert list(elsewhere.iterdir()) == []
    results = [json.loads(line[7:]) for line in run.stdout.splitlines() if line.startswith("RESULT ")]
    return Ran(run.returncode, run.stdout + run.stderr, results, logs, token)


@pytest.fixture(scope="module")
def local_run(small_base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran]:
    """Inputs and an undisturbed run of them on local folders. Do not change it: it is shared."""
    place = tmp_path_factory.mktemp("local")
    write_log(place / "in" / "log.csv.gz", log_rows(21, users=20))
    write_conversations(place / "in" / "talk.jsonl")
    one_event_each = (f"2024-03-01T06:00:{user:02}Z,user {user},door,hall,ok\n" for user in range(30))
    broken = "time,user,behavior,room,result\n" + "".join(
        one_event_each
    )  # passes every check before preparation
    (place / "in" / "broken.csv").write_text(broken)
    ran = run_pipelines(small_base, [str(place)], tmp_path_factory.mktemp("work"))
    assert ran.returncode == 0, ran.output[-4000:]
    return place, ran


def copy_inputs(local: Path, place: S3Location) -> None:
    """Put the inputs of a local run on S3."""
    for path in (local / "in").iterdir():
        storage.write_replacing(place / "in" / path.name, path.read_bytes())


def assert_same_metrics(first: Location, second: Location) -> None:
    """That two runs have the same models, and their metrics within 1e-3."""
    results = [
        json.loads(storage.read_text(place / "runs" / "small" / "results.json")) for place in (first, second)
    ]
    assert results[0]["models"].keys() == results[1]["models"].keys()
    for name, groups in results[0]["models"].items():
        for group, metrics in groups.items():
            for metric, value in metrics.items():
                other = results[1]["models"][name][group][metric]["value"]
                assert value["value"] == pytest.approx(other, abs=1e-3), (name, group, metric)


def contents(root: S3Location) -> Iterator[tuple[str, bytes]]:
    """Every object below the root by name, as it is stored and unpacked."""
    for name in storage.list_files(root):
        content = storage.read_bytes(root / name) or b""
        yield name, content
        if name.endswith(".gz"):
            yield name, gzip.decompress(content)
        elif name.endswith(".parquet"):
            yield name, repr(pq.read_table(pa.BufferReader(content)).to_pydict()).encode()


def test_a_run_on_s3_has_the_metrics_of_a_local_one_and_keeps_its_secrets(
    s3_root: S3Location,
    small_base: Path,
    local_run: tuple[Path, Ran],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    local, locally = local_run
    secret = secrets.token_hex(20)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    copy_inputs(local, s3_root)
    ran = run_pipelines(small_base, [str(s3_root), str(s3_root), f"{s3_root} broken"], tmp_path)
    assert ran.returncode == 0, ran.output[-4000:]
    first, second = ran.results
    assert first["report"] == f"{s3_root}/runs/small/report.html"
    assert not any(reused for _, reused in first["stages"].values())
    assert all(reused for _, reused in second["stages"].values())
    prints = [
        {name: values[0] for name, values in run["stages"].items() if name in ("prepare", "conversations")}
        for run in (locally.results[0], first)
    ]
    assert prints[0] == prints[1]
    assert_same_metrics(local, s3_root)
    assert "<html" in storage.read_text(s3_root / "runs" / "small" / "report.html")
    names = storage.list_files(s3_root / "runs")
    assert [name for name in names if "scratch" in name or "checkpoints" in name] == []

    assert "BROKEN" in ran.output
    for kind in ("manifest.json", "error.json", "config.yaml", "report.html", "results.json"):
        assert any(name.endswith(kind) for name in names), kind
    assert ran.logs
    written = [*contents(s3_root), *ran.logs.items(), ("output", ran.output.encode())]
    for hidden in (secret, ran.token):
        assert [name for name, content in written if hidden.encode() in content] == []


def test_a_run_behind_failing_storage_finishes_with_the_same_metrics(
    s3_root: S3Location, small_base: Path, local_run: tuple[Path, Ran], tmp_path: Path, proxy: FaultyProxy
) -> None:
    """A twentieth of the requests fails, and storage is away for a minute while A-Tuning writes its first state.

    If that is more than the patience, the job says that it is resumable, and the second start finishes.
    """
    local, _ = local_run
    copy_inputs(local, s3_root)
    proxy.fail_randomly(0.05, seed=4)
    proxy.go_down_at(r"^PUT .*/a_tune-[^/]*/checkpoints/[^/]*/step-", 60.0)
    ran = run_pipelines(small_base, [str(s3_root)], tmp_path)
    assert "down" in proxy.happened, ran.output[-4000:]
    if ran.returncode != 0:
        assert "This is resumable" in ran.output, ran.output[-4000:]
        ran = run_pipelines(small_base, [str(s3_root)], tmp_path)
    assert ran.returncode == 0, ran.output[-4000:]
    assert {"InternalError", "SlowDown"} <= set(proxy.happened)
    assert_same_metrics(local, s3_root)
