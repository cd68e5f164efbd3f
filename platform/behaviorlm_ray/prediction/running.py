"""A prediction over a log: planned from what was typed, and run in two passes, each task once."""

import json
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from behaviorlm.events.facts import LogFacts
from behaviorlm.events.log import Piece, find_log, read_piece
from behaviorlm.events.normalization import check_quarantine
from behaviorlm.events.summary import check_quarantined_behaviors, worst_losses
from behaviorlm.files.patient_reads import patience
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.predictor.artifact import DESCRIPTION, Artifact, read_artifact
from behaviorlm.predictor.places import local_folder
from behaviorlm_ray import storage
from behaviorlm_ray.console.progress_lines import ProgressLines
from behaviorlm_ray.console.screen import screen
from behaviorlm_ray.pipeline.inputs import hash_of_files
from behaviorlm_ray.prediction.folder import (
    Manifest,
    Summary,
    check_folder,
    clean,
    finish,
    manifest,
    read_summary,
    working_at,
)
from behaviorlm_ray.prediction.parts import predict_task, read_task
from behaviorlm_ray.prediction.plan import PREDICTIONS, OpenedModel, PredictionPlan, Wanted, wanted_of
from behaviorlm_ray.prediction.settings import ModelAndLog, PredictSettings, log_mapping
from behaviorlm_ray.preparation.plan import QUARANTINE, partition_count
from behaviorlm_ray.preparation.reading import check_zones

Task = Callable[[int, PredictionPlan], dict[str, Any]]


class Workers(Protocol):
    """Who does tasks; `pool.Pool` does them on Ray."""

    def do(self, name: str, task: Task, numbers: Sequence[int], plan: PredictionPlan, unit: str) -> None:
        """Do the tasks of these numbers, each of which leaves its report. Raises what they raise."""


def opened_artifact(settings: ModelAndLog) -> Artifact:
    """What the folder of the model says of it. Raises ConfigError, or DataError."""
    with local_folder(settings.model) as folder:
        return read_artifact(folder)


def plan_prediction(settings: PredictSettings, artifact: Artifact) -> PredictionPlan:
    """Look at everything that is read, but for the rows. Raises ConfigError or DataError."""
    return plan_over(
        settings,
        artifact,
        settings.to,
        lambda mapping: wanted_of(settings, mapping),
        k=min(settings.k, len(artifact.behaviors)),
        partition_by=settings.partition_by,
    )


def plan_over(
    settings: ModelAndLog,
    artifact: Artifact,
    to: str,
    wanted: Callable[[EventsConfig], Wanted],
    **options: Any,
) -> PredictionPlan:
    """A plan for any positions, told from how the log is read; options: k, partition_by, kept_every."""
    mapping = log_mapping(artifact, settings)
    with patience(settings.input_patience_seconds):
        log = find_log(mapping)
    size = sum(file.size for file in log.files)
    partitions = partition_count(size, settings.partition_megabytes, settings.min_partitions)
    there = storage.location(settings.model)
    # a name on the hub stays one
    place = settings.model if storage.read_bytes(there / DESCRIPTION) is None else str(there)
    model = OpenedModel(place, artifact.fingerprint, settings.base, settings.trust_remote_code)
    return PredictionPlan(
        model,
        log,
        wanted(log.events),
        partitions=partitions,
        folder=storage.location(to),
        input_patience_seconds=settings.input_patience_seconds,
        **options,
    )


def planned_manifest(plan: PredictionPlan) -> Manifest:
    """What the folder of a plan is to say. Reads the log's files once, to hash them.

    Raises ConfigError where the folder says something else.
    """
    with patience(plan.input_patience_seconds):
        found = manifest(plan, hash_of_files("the log", [file.path for file in plan.log.files]))
    check_folder(plan.folder, found)
    return found


def described(plan: PredictionPlan) -> list[str]:
    """What the plan would do, in lines; counts the log. Raises as the job itself would."""
    planned_manifest(plan)
    rows, events, users, positions = counted(plan)
    wanted = plan.wanted
    asked = {"latest": "what comes next, for each user", "every": "every position of every user"}[wanted.kind]
    if wanted.moment is not None:
        asked += f", as of {wanted.moment}"
    if wanted.since is not None:
        asked += " since the time given"
    return [
        f"predictor   {plan.model.place}",
        f"log         {len(plan.log.files):,} files, {rows:,} rows, {rows - events:,} of them unusable",
        f"users       {users:,} in {plan.partitions:,} parts",
        f"asked       {asked}",
        f"predictions {positions:,} of {plan.k} behaviors each (fewer where duplicates are dropped)",
        f"to          {plan.folder / PREDICTIONS}"
        + (f", by {plan.partition_by}" if plan.partition_by != "nothing" else ""),
    ]


def predict_log(plan: PredictionPlan, about: Manifest, workers: Workers) -> Summary:
    """Write all predictions into the folder; what is there of the same job stays. Raises DataError for the log."""
    with working_at(plan.folder, about):
        summary = read_summary(plan.folder)
        if summary is None:
            summary = _predict_log(plan, workers)
            finish(plan, summary)
        else:
            screen().says(f"all predictions lie in {plan.folder} already")
        clean(plan)
        return summary


def _predict_log(plan: PredictionPlan, workers: Workers) -> Summary:
    for folder in (QUARANTINE, PREDICTIONS):
        storage.make_folder(plan.folder / folder)
    read = _done(plan, workers, "read", read_task, len(plan.log.files))
    facts = sum((LogFacts.model_validate(report["facts"]) for report in read), LogFacts())
    _check(plan, facts, read)
    parts = _done(plan, workers, "predicted", predict_task, plan.partitions)
    warnings: dict[str, int] = {}
    for report in parts:
        for code, number in report["warnings"].items():
            warnings[code] = warnings.get(code, 0) + number
    return Summary(
        rows_read=facts.rows,
        quarantined=sum(facts.quarantined.values()),
        users=sum(report["users"] for report in parts),
        events=sum(report["events"] for report in parts),
        predictions=sum(report["rows"] for report in parts),
        warnings=dict(sorted(warnings.items())),
        files={file: size for report in parts for file, size in sorted(report["files"].items())},
    )


def _done(plan: PredictionPlan, workers: Workers, name: str, task: Task, tasks: int) -> list[dict[str, Any]]:
    """The reports of all tasks, after those that had none were done."""
    reports = {number: _report(plan, name, number) for number in _reported(plan, name, tasks)}
    left = [number for number in range(tasks) if number not in reports]
    unit = "files" if name == "read" else "parts"
    if reports:
        screen().says(f"predict: {name}: {len(reports)} of {tasks} {unit} are there already")
    if left:
        workers.do(name, task, left, plan, unit)
    return [reports.get(number) or _report(plan, name, number) for number in range(tasks)]


def _file(name: str, number: int) -> str:
    return f"read-{number:06d}.json" if name == "read" else f"part-{number:05d}.json"


def _reported(plan: PredictionPlan, name: str, tasks: int) -> list[int]:
    there = set(storage.list_files(plan.progress))
    return [number for number in range(tasks) if _file(name, number) in there]


def _report(plan: PredictionPlan, name: str, number: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(storage.read_text(plan.progress / _file(name, number)))
    return found


def pieces_of_files(plan: PredictionPlan) -> list[Piece]:
    """Each file is read as a whole, so that a file is what is read once."""
    return [Piece(index, file) for index, file in enumerate(plan.log.files)]


def _check(plan: PredictionPlan, facts: LogFacts, read: Sequence[dict[str, Any]]) -> None:
    """As preparation does. Raises DataError."""
    table, events = plan.folder / QUARANTINE, plan.log.events
    check_quarantine(facts.quarantined, facts.usable, events, table, facts.examples)
    check_quarantined_behaviors(worst_losses(facts), events, table)
    check_zones(plan, pieces_of_files(plan), read)


def counted(plan: PredictionPlan) -> tuple[int, int, int, int]:
    """Rows, events, users and positions of the log, by reading it once."""
    wanted = plan.wanted
    users: set[str] = set()
    rows = events = recent = 0
    progress = ProgressLines("counting the log", len(plan.log.files), "files")
    with patience(plan.input_patience_seconds):
        for piece in pieces_of_files(plan):
            for usable, unusable in read_piece(piece, plan.log.events):
                rows += len(usable) + len(unusable)
                events += len(usable)
                order = usable["order"].to_numpy()
                asked = usable if wanted.until is None else usable.filter(order <= wanted.until)
                users.update(asked["user"].unique().to_pylist())
                recent += len(order) if wanted.since is None else int((order >= wanted.since).sum())
            progress.add(1)
    positions = len(users) + (recent if wanted.kind == "every" else 0)
    return rows, events, len(users), positions
