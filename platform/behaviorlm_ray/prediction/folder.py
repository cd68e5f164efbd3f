"""The folder of predictions: what it says it is about, who works at it, and what it says once all is there."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pydantic import Field

from behaviorlm.config import Settings
from behaviorlm.errors import ConfigError, StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.console.screen import screen
from behaviorlm_ray.prediction.plan import PREDICTIONS, PredictionPlan
from behaviorlm_ray.stages.lease import LeaseRecord, LeaseSeeker
from behaviorlm_ray.storage import Location

MANIFEST = "prediction.json"
SUMMARY = "summary.json"
LEASE = "lease.json"
LEASE_SECONDS = 60.0
DECIDES_NOTHING = ("paths", "max_quarantine_share", "max_quarantine_share_of_behavior")
"""Keys of the mapping that change no row."""


class Manifest(Settings):
    """What the predictions of a folder are: with another of these values they would be others."""

    schema_version: int = Field(default=1, description="Of this file and of the rows.")
    model: str = Field(description="Fingerprint of the predictor.")
    log: str = Field(description="SHA-256 over the log's files.")
    mapping: dict[str, Any] = Field(description="How the log is read.")
    wanted: dict[str, Any] = Field(description="Which positions are asked for.")
    k: int = Field(description="Answers of each row.")
    partition_by: str = Field(description="What the folders go by.")
    partitions: int = Field(description="Parts of the log by user.")
    kept_every: int | None = Field(
        default=None, description="Of how many rows one has all log probabilities."
    )


class Summary(Settings):
    """What was predicted, once all is there."""

    rows_read: int = Field(description="Rows of the log.")
    quarantined: int = Field(
        description="Of these, those that cannot be used; each is listed in quarantine/."
    )
    users: int = Field(description="Users with events.")
    events: int = Field(description="Events, without duplicates and repeats that the mapping drops.")
    predictions: int = Field(description="Rows written.")
    warnings: dict[str, int] = Field(description="Rows by code of warning.")
    files: dict[str, int] = Field(
        description="Files below predictions/ and their bytes; no other belongs to them."
    )


def manifest(plan: PredictionPlan, log_hash: str) -> Manifest:
    """That of a plan; log_hash: of the content of the log's files."""
    wanted = {name: value for name, value in vars(plan.wanted).items() if value is not None}
    return Manifest(
        model=plan.model.fingerprint,
        log=log_hash,
        mapping=plan.log.events.model_dump(mode="json", exclude=set(DECIDES_NOTHING)),
        wanted=wanted,
        k=plan.k,
        partition_by=plan.partition_by,
        partitions=plan.partitions,
        kept_every=plan.kept_every,
    )


def check_folder(folder: Location, expected: Manifest) -> bool:
    """Whether a job of the same kind began in the folder. Raises ConfigError where anything else lies there."""
    content = storage.read_bytes(folder / MANIFEST)
    if content is None:
        if others := storage.list_files(folder):
            raise ConfigError(
                f"{folder} holds other files already, such as {others[0]}; remove them, or choose another place"
            )
        return False
    try:
        found = json.loads(content)
        differing = sorted(
            name
            for name, value in expected.model_dump(mode="json").items()
            if found.get(name) != json.loads(json.dumps(value))
        )
    except (ValueError, AttributeError):
        raise ConfigError(f"{folder / MANIFEST} is damaged; choose another place") from None
    if differing:
        raise ConfigError(
            f"{folder} holds predictions of another job, which differs in {', '.join(differing)}; choose another "
            "place, or give that job's model, log and keys to go on with it"
        )
    return True


def begin(folder: Location, expected: Manifest) -> None:
    """Write what the folder is about, unless that stands there. Raises ConfigError where anything else does."""
    check_folder(folder, expected)
    content = json.dumps(expected.model_dump(mode="json"), indent=1) + "\n"
    if not storage.write_exclusive(folder / MANIFEST, content.encode()):
        check_folder(folder, expected)  # two that began at the same time


@contextmanager
def working_at(folder: Location, expected: Manifest) -> Iterator[None]:
    """The folder is this process's for the block, and says what it is about; another's is waited for."""
    begin(folder, expected)
    seeker, is_told = LeaseSeeker(folder / LEASE, LEASE_SECONDS), False
    while isinstance(found := seeker.try_acquire(), LeaseRecord):
        if not is_told:
            screen().says(f"{folder} is worked at by {found.describe()}; waiting for it to end")
            is_told = True
        time.sleep(1.0)
    with found:
        yield


def read_summary(folder: Location) -> Summary | None:
    """What is said of a folder whose predictions are all there; None of others."""
    content = storage.read_bytes(folder / SUMMARY)
    return None if content is None else Summary.model_validate_json(content)


def finish(plan: PredictionPlan, summary: Summary) -> None:
    """Hold the files against the summary, and write it. Raises StorageError where files are missing."""
    folder = plan.folder / PREDICTIONS
    sizes = storage.sizes(folder, summary.files)
    if missing := [name for name, size in summary.files.items() if sizes.get(name) != size]:
        raise StorageError(
            f"{folder / missing[0]} is gone or cut, as are {len(missing)} file(s) in all, which this job "
            f"had written; remove {plan.progress} and run the same command again"
        )
    for name in sorted(set(storage.list_files(folder)) - summary.files.keys()):
        content = storage.read_bytes(folder / name)
        if content is not None:
            storage.remove_if(folder / name, content)
    written = json.dumps(summary.model_dump(mode="json"), indent=1) + "\n"
    storage.write_replacing(plan.folder / SUMMARY, written.encode())


def clean(plan: PredictionPlan) -> None:
    """Remove what only a job that is not finished needs."""
    for place in (plan.scratch, plan.progress):
        storage.remove_folder(place)


def told(summary: Summary, folder: Location, described: Mapping[str, str]) -> list[str]:
    """The summary in lines; described: codes of warnings in words."""
    lines = [
        f"{summary.predictions:,} predictions for {summary.users:,} users, from {summary.events:,} events "
        f"({summary.rows_read:,} rows, {summary.quarantined:,} of them in quarantine)"
    ]
    for code, words in described.items():
        if number := summary.warnings.get(code, 0):
            lines.append(f"  {code}: {number:,} rows; {words}")
    return [*lines, f"wrote {len(summary.files):,} files to {folder / PREDICTIONS}"]
