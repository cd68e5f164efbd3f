"""A run as it is tracked: what is told of it when, and what a person is told of the telling."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from behaviorlm.errors import StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.console.screen import screen
from behaviorlm_ray.pipeline.evaluate import DETAILS, RESULTS
from behaviorlm_ray.pipeline.run import Run
from behaviorlm_ray.report.results import CONFIG
from behaviorlm_ray.stages.finding import StageOutput
from behaviorlm_ray.tracking.following import Entry, Follower
from behaviorlm_ray.tracking.points import key_of, points_of
from behaviorlm_ray.tracking.record import configuration_hash, content_hash, read_record
from behaviorlm_ray.tracking.registered import log_predictor
from behaviorlm_ray.tracking.tracked_run import TrackedRun, open_tracked

FILES = (RESULTS, DETAILS, "report.html", CONFIG, "predictions.parquet")
"""Of a run's folder; those that there are."""
MODEL = "model"
CUT_OFF_SECONDS = 10.0
"""So long a run that failed or was interrupted waits at most: somebody wants it to end."""
BYTES_PER_SECOND = 1_000_000
"""At least so fast a model is taken to be sent."""


class Tracking:
    """A run that is told to MLflow, or with follower None to nobody.

    State: lines, for a person once the run has ended: where it is to be seen, and what was not told.
    """

    def __init__(self, run: Run, follower: Follower | None) -> None:
        self._run, self._follower = run, follower
        self._kept = ExitStack()
        self._is_said = False
        self.lines: list[str] = []

    def stage_ended(self, label: str, output: StageOutput) -> None:
        """A stage has its output, made now or long ago."""
        if self._follower is None:
            return
        self._follower.tell(
            Entry(
                label,
                output.manifest.content_hash,
                lambda run: _tell_stage(run, label, output),
                is_final=True,
            )
        )
        trouble = self._follower.trouble
        if trouble and not self._is_said:
            self._is_said = True
            screen().says(f"tracking: {trouble}; the run goes on, and this is tried again")

    def results_written(self) -> None:
        """The folder of the run holds its results."""
        if self._follower is None:
            return
        folder = self._run.output_folder
        there = storage.sizes(folder, FILES).keys() - {"report.html"}
        digests = storage.hash_files(folder, sorted(there)).values()
        content = content_hash(*(digest.sha256 for digest in digests))
        self._follower.tell(Entry("files", content, lambda run: run.files(folder, FILES)))

    @property
    def wants_model(self) -> bool:
        """Whether a predictor is to be registered and is not yet. Waits for what is told until now."""
        tracking, follower = self._run.settings.tracking, self._follower
        if follower is None or tracking.registered_model is None:
            return False
        if follower.settle(tracking.patience_seconds):
            return False  # which is said at the end
        record = read_record(self._run.output_folder)
        return record is None or record.told.get(MODEL) != self._model_content()

    def place_for_export(self) -> Path:
        """A folder that stays until the run has ended: what is to be sent from it may be tried again then."""
        return Path(self._kept.enter_context(TemporaryDirectory(prefix="behaviorlm-"))) / "predictor"

    def exported(self, folder: Path) -> None:
        """The predictor is there to be registered."""
        tracking, follower = self._run.settings.tracking, self._follower
        assert follower is not None and tracking.registered_model is not None
        tell = partial(log_predictor, folder=folder, name=tracking.registered_model)
        follower.tell(Entry(MODEL, self._model_content(), tell))
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        follower.settle(tracking.patience_seconds + size / BYTES_PER_SECOND)

    def fails(self, what: str) -> None:
        """Something that was to be told is not there."""
        self.lines.append(f"warning: tracking: {what}")

    def ends(self, status: str) -> None:
        """FINISHED, FAILED or KILLED: all is tried once more, and what is wrong is said."""
        if self._follower is None:
            return
        patience = self._run.settings.tracking.patience_seconds
        seconds = patience if status == "FINISHED" else min(patience, CUT_OFF_SECONDS)
        trouble = self._follower.end(status, seconds)
        self._kept.close()
        try:
            record = read_record(self._run.output_folder)
        except StorageError as error:
            record, trouble = None, trouble or str(error)
        if record is not None:
            self.lines.append(f"tracked: {record.shown_at}")
        if trouble:
            again = "the same command tells what is missing"
            self.fails(f"not all was told to {self._run.settings.tracking.mlflow}: {trouble}; {again}")

    def _model_content(self) -> str:
        results = storage.hash_file(self._run.output_folder / RESULTS).sha256
        name = str(self._run.settings.tracking.registered_model)
        return content_hash(results, hashlib.sha256(name.encode()).hexdigest())


@contextmanager
def tracked(run: Run) -> Iterator[Tracking]:
    """Track the run of the block, if its settings ask for it. What is wrong with that never comes out of the block."""
    if run.settings.tracking.mlflow is None:
        yield Tracking(run, None)
        return
    follower = Follower(lambda anew: open_tracked(run, anew=anew))
    follower.tell(Entry("parameters", configuration_hash(run.settings), lambda told: _tell_run(told, run)))
    tracking = Tracking(run, follower)
    try:
        yield tracking
    except BaseException as error:
        tracking.ends("FAILED" if isinstance(error, Exception) else "KILLED")
        for line in tracking.lines:
            error.add_note(line)
        raise
    tracking.ends("FINISHED")


def _tell_run(tracked_run: TrackedRun, run: Run) -> None:
    configuration: Mapping[str, object] = run.settings.model_dump(mode="json")
    tracked_run.parameters(configuration)
    text = yaml.safe_dump(configuration, sort_keys=False, allow_unicode=True)
    tracked_run.client.log_text(tracked_run.record.run_id, text, CONFIG)


def _tell_stage(tracked_run: TrackedRun, label: str, output: StageOutput) -> None:
    tracked_run.metrics(points_of(label, output))
    tracked_run.tags({f"stage.{key_of(label)}": output.manifest.fingerprint})
