"""The whole pipeline with everything on S3 gives what it gives on local folders."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from behaviorlm_ray import storage
from behaviorlm_ray.storage import S3Location
from tests.platform.small_runs import log_rows, write_conversations, write_log

SCRIPT = """
import json, sys
import ray
from behaviorlm_ray.pipeline import Pipeline
from behaviorlm_ray.results import write_results
from jobs.run import whole
from tests.platform.small_runs import run_settings

base, ray_folder, local, remote = sys.argv[1:]
ray.init(address="local", num_cpus=4, include_dashboard=False, object_store_memory=300 * 1024**2, _temp_dir=ray_folder)
for place in (local, remote, remote):
    talk = f"[{{name: talk, paths: ['{place}/in/talk.jsonl'], ratio: 0.25, weight: 0.5, max_tokens: 64}}]"
    overrides = (f"auxiliary={talk}", "execution.scoring_actors=1", f"storage.root={place}/runs",
                 f"events.paths=['{place}/in/*.csv.gz']")
    pipeline = Pipeline(run_settings("unused", base, overrides=overrides))
    pipeline.check_inputs()
    whole(pipeline)
    report = write_results(pipeline)
    stages = {name: [output.manifest.fingerprint, output.reused] for name, output in pipeline.outputs.items()}
    print("RESULT " + json.dumps({"report": str(report), "stages": stages}), flush=True)
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)  # two whole runs and a Ray of their own, on a machine that may be busy
def test_a_run_on_s3_has_the_metrics_of_a_local_one(
    s3_root: S3Location, small_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = tmp_path / "local"
    write_log(local / "in" / "log.csv.gz", log_rows(21, users=20))
    write_conversations(local / "in" / "talk.jsonl")
    for name in storage.list_files(local):
        storage.write_replacing(s3_root / name, storage.read_bytes(local / name) or b"")
    ray_folder = tempfile.mkdtemp(prefix="blm-", dir="/tmp")  # short: paths of sockets lie below it
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path = os.pathsep.join([os.getcwd(), os.path.join(os.getcwd(), "platform")])
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(small_base), ray_folder, str(local), str(s3_root)],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)},
        cwd=elsewhere,
        capture_output=True,
        text=True,
        check=False,
    )
    shutil.rmtree(ray_folder, ignore_errors=True)
    assert run.returncode == 0, run.stderr[-4000:]
    found = [json.loads(line[7:]) for line in run.stdout.splitlines() if line.startswith("RESULT ")]
    first_local, first, second = found
    assert first["report"] == f"{s3_root}/runs/small/report.html"
    assert not any(reused for _, reused in first["stages"].values())
    assert all(reused for _, reused in second["stages"].values())
    prints = [
        {name: values[0] for name, values in run["stages"].items() if name in ("prepare", "conversations")}
        for run in (first_local, first)
    ]
    assert prints[0] == prints[1]
    results = [
        json.loads(storage.read_text(place / "runs" / "small" / "results.json")) for place in (local, s3_root)
    ]
    assert results[0]["models"].keys() == results[1]["models"].keys()
    for name, groups in results[0]["models"].items():
        for group, metrics in groups.items():
            for metric, value in metrics.items():
                other = results[1]["models"][name][group][metric]["value"]
                assert value["value"] == pytest.approx(other, abs=1e-3), (name, group, metric)
    assert "<html" in storage.read_text(s3_root / "runs" / "small" / "report.html")
    assert list(elsewhere.iterdir()) == []
    assert "test-secret" not in run.stdout + run.stderr
    left = [
        name for name in storage.list_files(s3_root / "runs") if "scratch" in name or "checkpoints" in name
    ]
    assert left == []
