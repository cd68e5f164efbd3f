"""Finished runs told to a database of MLflow: what a job does, without Ray; and that database read back."""

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from behaviorlm.config import validate_settings
from behaviorlm_ray.pipeline.evaluate import evaluate
from behaviorlm_ray.pipeline.run import Run
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.tracking.record import TrackingRecord, read_record
from behaviorlm_ray.tracking.registering import tell_results
from behaviorlm_ray.tracking.tracking import Tracking, tracked

if TYPE_CHECKING:  # slow to import: where it is used
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Told:
    """What MLflow has of a run. histories: (step, value) by metric, as often as they were logged."""

    run_id: str
    status: str
    parameters: dict[str, str]
    tags: dict[str, str]
    histories: dict[str, list[tuple[int, float]]]


def with_tracking(run: Run, **tracking: Any) -> Run:
    """The same run with other keys of `tracking`; its stages are those of the run."""
    data = run.settings.model_dump(mode="json")
    settings = validate_settings(RunSettings, {**data, "tracking": data["tracking"] | tracking}, "test")
    return Run(settings, run.inputs)


def copied(run: Run, folder: Path, **tracking: Any) -> Run:
    """A copy of the run's root, so that its record is the test's own."""
    assert isinstance(run.settings.storage.place, Path)
    root = shutil.copytree(run.settings.storage.place, folder / "runs")
    data = run.settings.model_dump(mode="json")
    data |= {"storage": data["storage"] | {"root": str(root)}, "tracking": data["tracking"] | tracking}
    settings = validate_settings(RunSettings, data, "test")
    return Run(settings, run.inputs)


def tell(run: Run) -> Tracking:
    """What `behaviorlm run` does where every stage is finished."""
    with tracked(run) as tracking:
        tell_stages(run, tracking)
        tell_results(run, tracking)
    return tracking


def tell_stages(run: Run, tracking: Tracking) -> None:
    """The stages of a finished run, one after another."""
    runner = run.runner()
    runner.follow = tracking.stage_ended
    runner.run(evaluate(run))


def record_of(run: Run) -> TrackingRecord:
    """What the run's folder says of it."""
    record = read_record(run.output_folder)
    assert record is not None
    return record


def client_of(run: Run) -> "MlflowClient":
    """To look for oneself."""
    from mlflow import MlflowClient

    address = run.settings.tracking.mlflow
    return MlflowClient(tracking_uri=address, registry_uri=address)


def told(run: Run) -> Told:
    """Read everything back."""
    client, run_id = client_of(run), record_of(run).run_id
    found = client.get_run(run_id)
    histories: dict[str, list[tuple[int, float]]] = {}
    with closing(sqlite3.connect(client.tracking_uri.removeprefix("sqlite:///"))) as database:
        query = "SELECT key, step, value FROM metrics WHERE run_uuid = ? ORDER BY timestamp"
        for key, step, value in database.execute(query, (run_id,)):
            histories.setdefault(key, []).append((step, value))
    return Told(run_id, found.info.status, found.data.params, found.data.tags, histories)
