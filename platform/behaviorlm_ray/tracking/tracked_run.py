"""One run in MLflow: found again or begun, and told things. Everything here may wait for a server, and may fail."""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from behaviorlm_ray import storage
from behaviorlm_ray.pipeline.run import Run
from behaviorlm_ray.report.provenance import working_commit
from behaviorlm_ray.stages.manifests import package_versions
from behaviorlm_ray.storage import Location
from behaviorlm_ray.tracking.parameters import parameters_of
from behaviorlm_ray.tracking.points import Point
from behaviorlm_ray.tracking.record import TrackingRecord, configuration_hash, read_record

if TYPE_CHECKING:
    from mlflow import MlflowClient

ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Where the environment says nothing else: MLflow would try for minutes, report its use to its makers, and print."""

PARAMETERS_PER_REQUEST = 100
METRICS_PER_REQUEST = 1000
NOT_THERE = "RESOURCE_DOES_NOT_EXIST"
THERE_ALREADY = "RESOURCE_ALREADY_EXISTS"


class TrackedRun:
    """A run of MLflow and the record of it in our run's folder. State: the record."""

    def __init__(self, client: "MlflowClient", folder: Location, record: TrackingRecord) -> None:
        self.client = client
        self.record = record
        self._folder = folder

    def has(self, name: str, content: str) -> bool:
        """Whether this was told entirely."""
        return self.record.told.get(name) == content

    def notes(self, name: str, content: str) -> None:
        """This was told entirely."""
        self.record = self.record.with_told(name, content)
        self.record.write(self._folder)

    def metrics(self, points: Sequence[Point]) -> None:
        """Tell those that are not there yet: telling may have been cut off between two requests."""
        from mlflow.entities import Metric

        known = self.client.get_run(self.record.run_id).data.metrics
        there = {
            (key, metric.step)
            for key in {point.key for point in points} & known.keys()
            for metric in self.client.get_metric_history(self.record.run_id, key)
        }
        new = [
            Metric(point.key, point.value, point.milliseconds, point.step)
            for point in points
            if (point.key, point.step) not in there
        ]
        for start in range(0, len(new), METRICS_PER_REQUEST):
            self.client.log_batch(self.record.run_id, metrics=new[start : start + METRICS_PER_REQUEST])

    def parameters(self, configuration: Mapping[str, Any]) -> None:
        """Tell those that are not there yet: MLflow's never change."""
        from mlflow.entities import Param

        there = self.client.get_run(self.record.run_id).data.params
        new = [Param(key, value) for key, value in parameters_of(configuration).items() if key not in there]
        for start in range(0, len(new), PARAMETERS_PER_REQUEST):
            self.client.log_batch(self.record.run_id, params=new[start : start + PARAMETERS_PER_REQUEST])

    def tags(self, tags: Mapping[str, str]) -> None:
        """Set them."""
        from mlflow.entities import RunTag

        self.client.log_batch(self.record.run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def files(self, folder: Location, names: Sequence[str]) -> None:
        """Store those that there are, in place of earlier ones of their names."""
        with tempfile.TemporaryDirectory(prefix="behaviorlm-") as links:
            for name in storage.sizes(folder, names):
                (Path(links) / name).symlink_to(storage.local_copy(folder / name).resolve())
            self.client.log_artifacts(self.record.run_id, links)

    def ends(self, status: str) -> None:
        """FINISHED, FAILED or KILLED; it may begin again."""
        self.client.set_terminated(self.record.run_id, status)


def open_tracked(run: Run, *, anew: bool = False) -> TrackedRun:
    """The tracked run of a run that was begun before, else a new one; anew: a new one in any case."""
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    from mlflow import MlflowClient

    tracking, folder = run.settings.tracking, run.output_folder
    assert tracking.mlflow is not None
    client = MlflowClient(tracking_uri=tracking.mlflow, registry_uri=tracking.mlflow)
    record = None if anew else read_record(folder)
    if record is not None and _is_of(record, run) and _goes_on(client, record.run_id):
        return TrackedRun(client, folder, record)
    experiment = _experiment(client, tracking.experiment)
    begun = client.create_run(experiment, run_name=run.settings.name, tags=_tags(run))
    record = TrackingRecord(
        mlflow=tracking.mlflow,
        experiment=tracking.experiment,
        experiment_id=experiment,
        configuration=configuration_hash(run.settings),
        run_id=begun.info.run_id,
    )
    record.write(folder)
    return TrackedRun(client, folder, record)


def _is_of(record: TrackingRecord, run: Run) -> bool:
    tracking = run.settings.tracking
    return (record.mlflow, record.experiment, record.configuration) == (
        tracking.mlflow,
        tracking.experiment,
        configuration_hash(run.settings),
    )


def _goes_on(client: "MlflowClient", run_id: str) -> bool:
    """Whether the run is there; it runs again then."""
    found = _unless(NOT_THERE, lambda: client.get_run(run_id))
    if found is None or found.info.lifecycle_stage != "active":
        return False
    client.update_run(run_id, status="RUNNING")
    return True


def _experiment(client: "MlflowClient", name: str) -> str:
    """Its id; made where it is not there."""
    found = client.get_experiment_by_name(name)
    if found is None:
        # another run may make it meanwhile
        _unless(THERE_ALREADY, lambda: client.create_experiment(name, _beside(client.tracking_uri)))
        found = client.get_experiment_by_name(name)
    if found.lifecycle_stage != "active":
        raise ValueError(
            f"the experiment {name!r} was deleted: restore it (`mlflow experiments restore`), or name another one in "
            "tracking.experiment"
        )
    return str(found.experiment_id)


def _beside(address: str) -> str | None:
    """Where the files of an experiment go: beside a database in a file; else where the server puts them."""
    kind, _, path = address.partition(":///")
    return str(Path(path).absolute().parent / "artifacts") if kind.partition("+")[0] == "sqlite" else None


def _unless(code: str, ask: Callable[[], Any]) -> Any:
    """What MLflow answers; None for its error of this code."""
    from mlflow.exceptions import MlflowException

    try:
        return ask()
    except MlflowException as error:
        if error.error_code != code:
            raise
        return None


def _tags(run: Run) -> dict[str, str]:
    versions = {f"version.{name}": value for name, value in package_versions().items()}
    commit = working_commit()
    return {
        "mlflow.source.name": "behaviorlm run",
        "behaviorlm.run": run.settings.name,
        "behaviorlm.dataset": run.settings.events.dataset,
        "behaviorlm.configuration": configuration_hash(run.settings),
        **versions,
        **({"mlflow.source.git.commit": commit} if commit else {}),
    }
