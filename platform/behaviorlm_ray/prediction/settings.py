"""The keys of `behaviorlm predict` and `behaviorlm check`. Light: no array library."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from behaviorlm.config import Settings, validate_settings
from behaviorlm.errors import ConfigError
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.predictor.artifact import Artifact

PartitionBy = Literal["nothing", "behavior", "group", "user"]
LATEST = "latest"
LEARNED = ("context_before", "context_after", "clock")
"""Keys of the mapping that the prompts and counts of an artifact rest on."""


class ModelAndLog(Settings):
    """An artifact, a log that it reads, and with how much of a cluster."""

    model: str = Field(
        min_length=1, description="Folder that `behaviorlm export` wrote, s3://bucket/prefix, or owner/name."
    )
    log: list[str] = Field(
        min_length=1, description="Files, folders and globs of the log, local or s3://bucket/key."
    )
    events: dict[str, Any] = Field(
        default={},
        description="Keys of the mapping in which this log differs from the one that was trained on, as in a run's "
        "`events`: --events.user=uid.",
    )
    base: str | None = Field(
        default=None, description="Where the base model lies, if it has moved since the export."
    )
    trust_remote_code: bool = Field(default=False, description="Let code run that the base model brings.")
    replicas: int | None = Field(
        default=None,
        ge=1,
        description="Most copies of the predictor at a time; there is one at first, and more as the cluster has room. "
        "null: as many as the cluster has CPUs (or GPUs) for as the job starts.",
    )
    cpus_per_replica: int = Field(default=1, ge=1, description="CPUs of each copy.")
    use_gpu: bool = Field(default=False, description="A GPU for each copy.")
    partition_megabytes: int = Field(
        default=16,
        ge=1,
        description="Size of the log's parts by user, each of which is held in memory whole.",
    )
    min_partitions: int = Field(default=8, ge=1, le=256, description="Parts of a small log.")
    input_patience_seconds: float = Field(
        default=180.0, ge=0, description="How long a storage of the log that does not answer is tried again."
    )
    allow_unauthenticated_cluster: bool = Field(
        default=False, description="Use a cluster that other machines reach and that asks for no token."
    )

    @field_validator("log", mode="before")
    @classmethod
    def _one_path_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


class PredictSettings(ModelAndLog):
    """Batch prediction: what happens next, for every user of a log or at every position."""

    to: str = Field(
        min_length=1,
        description="Where predictions go, local or s3://bucket/prefix; empty, or of the same job.",
    )
    at: str = Field(
        default=LATEST,
        description="`latest`: after the last event of every user, at a time that is not known; or a time in the "
        "log's own form: then as of that time, without the events after it.",
    )
    every: bool = Field(
        default=False,
        description="At every position: each event from those before it, and what comes after the last one (--every).",
    )
    since: str | None = Field(
        default=None,
        description="At every position whose next event came then or later, or has not come yet; in the log's own "
        "form of time.",
    )
    k: int = Field(default=5, ge=1, description="Behaviors of each prediction.")
    partition_by: PartitionBy = Field(
        default="nothing",
        description="Folders of the rows: by the first behavior's id, by its group, or by a hash of the user.",
    )

    @model_validator(mode="after")
    def _one_way_of_asking(self) -> Self:
        asked = [
            name for name in ("at", "every", "since") if name in self.model_fields_set and getattr(self, name)
        ]
        if len(asked) > 1:
            raise ValueError(f"{' and '.join(asked)} exclude each other: keep one")
        return self


class Limits(Settings):
    """From where on a figure asks for something. All of them are our choice; set them by what a wrong answer costs."""

    accuracy_loss: float = Field(
        default=0.03,
        ge=0,
        description="Tune again where anchor or tail accuracy is surely lower by more than this than when exported: "
        "where its interval by users ends below.",
    )
    unseen_share: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Tune again where more of the events have behaviors that the vocabulary does not hold.",
    )
    mix_distance: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Tune again where the mix of behaviors lies further from the trained one (total variation: the "
        "share of events that would have to change) and further than by chance.",
    )
    switched_share: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Tune again where more of the events have behaviors that were tail and are anchors by now, or the "
        "other way round.",
    )
    anchor_threshold: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="Share above which a behavior is an anchor, as the run had it. null: 1 %, or where the predictor's "
        "groups go by another share, halfway between its rarest anchor and its most frequent tail behavior.",
    )
    calibration_error: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Recalibrate where the expected calibration error of the first answer is surely above.",
    )


class CheckSettings(ModelAndLog):
    """What a new log says of a predictor: keep it, recalibrate it, or tune again."""

    since: str | None = Field(
        default=None, description="Only events from then on are judged by; those before are history."
    )
    limits: Limits = Field(default=Limits(), description="From where on a figure asks for something.")
    fail_on: Literal["nothing", "recalibrate", "tune_again"] = Field(
        default="nothing", description="End with exit status 1 where the verdict is this or graver."
    )
    recalibrate: bool = Field(
        default=False, description="Write the predictor with probabilities that fit this log (--recalibrate)."
    )
    to: str | None = Field(
        default=None, description="Where the recalibrated one goes, local or on S3; empty so far."
    )
    work: str | None = Field(
        default=None,
        description="Folder that keeps the predictions and check.json, from which an interrupted check goes on; "
        "every machine must reach it. null: a temporary one on this machine.",
    )
    bootstrap_samples: int = Field(default=1000, ge=1, description="Resamples of users behind each interval.")

    @model_validator(mode="after")
    def _a_place_for_what_is_written(self) -> Self:
        if self.recalibrate != (self.to is not None):
            raise ValueError("recalibrate and to belong together: give both or neither")
        return self


def log_mapping(artifact: Artifact, settings: ModelAndLog) -> EventsConfig:
    """How the log is read: as that of the artifact, but for what is set. Raises ConfigError."""
    stored = artifact.events.model_dump(mode="json")
    source = "the artifact's mapping of the log, with --events"
    mapping = validate_settings(
        EventsConfig, _merged(stored, settings.events) | {"paths": settings.log}, source
    )
    changed = [name for name in LEARNED if getattr(mapping, name) != getattr(artifact.events, name)]
    if changed:
        raise ConfigError(
            f"{' and '.join(f'events.{name}' for name in changed)}: the predictor has learned these columns as they "
            "are; call them the same in the log"
        )
    return mapping


def _merged(stored: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(stored)
    for name, value in over.items():
        below = found.get(name)
        found[name] = (
            _merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
        )
    return found
