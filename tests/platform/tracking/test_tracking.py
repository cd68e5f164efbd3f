"""A tracked run holds what the run's folder holds, each thing once, in however many pieces it was told."""

import json
from pathlib import Path

import pytest

from behaviorlm.config import flattened
from behaviorlm_ray import storage
from behaviorlm_ray.pipeline.evaluate import evaluate
from behaviorlm_ray.pipeline.run import Run
from behaviorlm_ray.stages.manifests import Manifest
from behaviorlm_ray.tracking.points import points_of
from behaviorlm_ray.tracking.record import RECORD_FILE, TrackingRecord
from behaviorlm_ray.tracking.tracked_run import TrackedRun
from behaviorlm_ray.tracking.tracking import FILES, tracked
from tests.platform.export.finished_runs import CURVE_LINES
from tests.platform.tracking.tracked_runs import (
    client_of,
    copied,
    record_of,
    tell,
    tell_stages,
    told,
    with_tracking,
)


def manifests(run: Run) -> dict[str, Manifest]:
    """Of the run's finished stages, by label."""
    runner = run.runner()
    runner.plan(evaluate(run))
    return {label: output.manifest for label, output in runner.named(evaluate(run)).items()}


def test_it_holds_what_the_folder_holds(finished: Run, database: str, tmp_path: Path) -> None:
    run = copied(finished, tmp_path, mlflow=database, experiment="shop")
    lines = tell(run).lines
    found, client = told(run), client_of(run)
    assert lines == [f"tracked: run {found.run_id} in {database}"]
    assert found.status == "FINISHED"
    assert client.get_experiment(client.get_run(found.run_id).info.experiment_id).name == "shop"
    flat = flattened(run.settings.model_dump(mode="json"))
    assert found.parameters == {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in flat.items()
    }
    losses = [(line["step"] + 1, line["loss"]) for line in CURVE_LINES]
    assert found.histories["curve/one_stage/loss"] == losses
    curve = client.get_metric_history(found.run_id, "curve/one_stage/loss")
    assert [one.timestamp - curve[0].timestamp for one in curve] == [0, 500, 1000]
    results = json.loads(storage.read_text(run.output_folder / "results.json"))
    for name in ("one_stage", "untuned"):
        for group in ("all", "anchor", "tail"):
            measured = results["models"][name][group]["accuracy"]
            for ending, which in (("", "value"), ("_low", "low"), ("_high", "high")):
                history = found.histories[f"test/{name}/{group}/accuracy{ending}"]
                assert history == [(0, measured[which])]
    for label, manifest in manifests(run).items():
        assert found.histories[f"stage/seconds/{label}"] == [(0, manifest.duration_seconds)]
        assert found.tags[f"stage.{label}"] == manifest.fingerprint
        for name, amount in manifest.cost.items():
            assert found.histories[f"stage/{name}/{label}"] == [(0, amount)]
    assert found.histories["stage/tokens/one_stage"] == [(0, 1200.0)]
    assert found.tags["mlflow.runName"] == found.tags["behaviorlm.run"] == "small"
    assert found.tags["version.torch"] and found.tags["version.behaviorlm"]
    assert not Path("mlruns").exists()
    stored = {file.path for file in client.list_artifacts(found.run_id)}
    assert stored == {name for name in FILES if (tmp_path / "runs" / "small" / name).exists()}
    assert {"results.json", "details.json", "report.html", "config.yaml"} <= stored
    for name in stored:
        content = Path(client.download_artifacts(found.run_id, name, str(tmp_path))).read_bytes()
        assert content == storage.read_bytes(run.output_folder / name)


def test_the_same_run_goes_on_in_the_same_and_doubles_nothing(
    finished: Run, database: str, tmp_path: Path
) -> None:
    run = copied(finished, tmp_path, mlflow=database)
    tell(run)
    first = told(run)
    elsewhere = with_tracking(run, patience_seconds=30)  # as widely as one likes
    assert len(tell(elsewhere).lines) == 1 and told(run) == first
    record = record_of(run)
    record.model_copy(update={"told": {}}).write(run.output_folder)  # killed before it noted anything
    tell(run)
    assert told(run) == first and record_of(run).told == record.told


def test_a_store_that_keeps_what_is_repeated_gets_nothing_twice(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Databases drop what is the same to the millisecond; MLflow's older store of files does not."""
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    run, store = copied(finished, tmp_path), str(tmp_path / "store")
    client = MlflowClient(tracking_uri=store)
    run_id = client.create_run("0").info.run_id
    record = TrackingRecord(mlflow=store, experiment="", experiment_id="0", configuration="", run_id=run_id)
    tracked_run = TrackedRun(client, run.output_folder, record)
    runner = run.runner()
    runner.plan(evaluate(run))
    points = points_of("one_stage", runner.named(evaluate(run))["one_stage"])
    for told_points in (points[:7], points, points):
        tracked_run.metrics(told_points)
    for key in {point.key for point in points}:
        found = [(one.step, one.value) for one in client.get_metric_history(run_id, key)]
        assert sorted(found) == sorted((one.step, one.value) for one in points if one.key == key)


def test_what_is_another_run_is_tracked_as_another(finished: Run, database: str, tmp_path: Path) -> None:
    run = copied(finished, tmp_path, mlflow=database)
    tell(run)
    first = told(run)
    seen = {first.run_id}
    for what in ("another configuration", "a stage made anew", "deleted there", "a damaged record"):
        record = record_of(run)
        if what == "another configuration":
            record.model_copy(update={"configuration": "0" * 64}).write(run.output_folder)
        elif what == "a stage made anew":
            record.with_told("one_stage", "0" * 64).write(run.output_folder)
        elif what == "deleted there":
            client_of(run).delete_run(record.run_id)
        else:
            storage.write_replacing(run.output_folder / RECORD_FILE, b"{")
        tell(run)
        found = told(run)
        assert found.run_id not in seen and found.status == "FINISHED", what
        assert found.histories == first.histories and found.parameters == first.parameters, what
        assert client_of(run).get_run(record.run_id).info.status == "FINISHED", what
        seen.add(found.run_id)


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("mended soon"), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_a_run_that_ends_otherwise_says_so_and_is_gone_on_with(
    error: BaseException, status: str, finished: Run, database: str, tmp_path: Path
) -> None:
    run = copied(finished, tmp_path, mlflow=database)
    with pytest.raises(type(error)), tracked(run) as tracking:
        tell_stages(run, tracking)
        raise error
    cut_off = told(run)
    assert cut_off.status == status and cut_off.histories["curve/one_stage/loss"]
    tell(run)
    assert told(run).run_id == cut_off.run_id and told(run).status == "FINISHED"


def test_a_run_that_is_not_tracked_leaves_no_trace(finished: Run, tmp_path: Path) -> None:
    run = copied(finished, tmp_path)
    before = sorted(path for path in tmp_path.rglob("*") if "stages" not in path.parts)
    assert tell(run).lines == []
    assert sorted(path for path in tmp_path.rglob("*") if "stages" not in path.parts) == before
