"""What a prediction over a log consists of, whichever process works at it: asked positions, places, parts."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa

from behaviorlm.errors import ConfigError
from behaviorlm.events.config import EventsConfig
from behaviorlm.events.log import SourceLog
from behaviorlm.events.times import read_times
from behaviorlm.files.patient_reads import PATIENCE_SECONDS
from behaviorlm.timelines.config import SplitConfig
from behaviorlm_ray import storage
from behaviorlm_ray.prediction.settings import LATEST, PartitionBy, PredictSettings
from behaviorlm_ray.stages.leftovers import SCRATCH
from behaviorlm_ray.storage import Location

PROGRESS = "progress"
PREDICTIONS = "predictions"


@dataclass(frozen=True)
class Wanted:
    """Which predictions. kind: one after the last event of each user, or one at every position.

    moment: when the latest are asked for, in the log's own form, None: not known; events after it, whose order is
    greater than `until`, are left out. since: order of the next event from which on positions count.
    """

    kind: Literal["latest", "every"]
    moment: str | None = None
    until: int | None = None
    since: int | None = None


@dataclass(frozen=True)
class OpenedModel:
    """Where a predictor lies and how it is opened. fingerprint: what must be found there."""

    place: str
    fingerprint: str
    base: str | None = None
    trust_remote_code: bool = False


@dataclass(frozen=True)
class PredictionPlan:
    """What all tasks need; sent to each, which reads and writes from wherever it runs.

    kept_every: of every so many rows that have a next event, the log probabilities of the vocabulary are kept, too.
    """

    model: OpenedModel
    log: SourceLog
    wanted: Wanted
    k: int
    partitions: int
    folder: Location
    partition_by: PartitionBy = "nothing"
    kept_every: int | None = None
    input_patience_seconds: float = PATIENCE_SECONDS
    split: SplitConfig = field(default_factory=SplitConfig)

    @property
    def scratch(self) -> Location:
        """Where the first pass leaves events, in a folder for each part; removed in the end."""
        return self.folder / SCRATCH

    @property
    def progress(self) -> Location:
        """Where each task that is done leaves its report; removed in the end."""
        return self.folder / PROGRESS


def wanted_of(settings: PredictSettings, mapping: EventsConfig) -> Wanted:
    """Raises ConfigError for times that cannot be read."""
    if settings.every:
        return Wanted("every")
    if settings.since is not None:
        return Wanted("every", since=order_of("since", settings.since, mapping))
    if settings.at != LATEST:
        return Wanted("latest", moment=settings.at, until=order_of("at", settings.at, mapping))
    return Wanted("latest")


def once(place: Location, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What was reported there, or else what is made now, and then lies there: whole, or not at all."""
    kept = storage.read_bytes(place)
    if kept is not None:
        found: dict[str, Any] = json.loads(kept)
        return found
    report = make()
    storage.write_replacing(place, json.dumps(report).encode())
    return report


def order_of(key: str, text: str, mapping: EventsConfig) -> int:
    """The order of a moment as the log has it, in the first of the columns that order it. Raises ConfigError."""
    column = mapping.order.columns[0]
    if column.kind == "time":
        times = read_times(pa.array([text.strip()], pa.string()), column)
        if times.is_readable[0]:
            return int(times.utc[0])
        form = column.time_format or "ISO 8601 or an epoch number"
        raise ConfigError(f"{key}: {text!r} cannot be read as a time in the log's form ({form})")
    try:
        return int(text)
    except ValueError:
        raise ConfigError(
            f"{key}: {text!r} is no whole number, and the log is ordered by {column.kind}"
        ) from None
