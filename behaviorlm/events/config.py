"""What a behavior log looks like: which files, which columns, what orders the events."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from behaviorlm.config import Settings
from behaviorlm.events.file_config import FileConfig

EpochUnit = Literal["auto", "seconds", "milliseconds", "microseconds", "nanoseconds"]


class OrderConfig(Settings):
    """What puts the events of a user in order."""

    column: str = Field(min_length=1, description="Column that orders the events of a user.")
    kind: Literal["time", "integer"] = Field(
        default="time",
        description="`time`: ISO 8601 (2024-05-31T14:05:09.5+02:00; zone and fraction may be absent) or "
        "an epoch number; `integer`: any whole number, such as a step.",
    )
    time_zone: str | None = Field(
        default=None,
        description="IANA name (Europe/Prague): the zone of times written without one, and of the clock "
        "columns. null: such times count as UTC, and a log that mixes both kinds is refused.",
    )
    time_format: str | None = Field(
        default=None,
        description="strptime pattern (%d/%m/%Y %H:%M:%S) of times not in ISO 8601; whole seconds, without "
        "a zone.",
    )
    epoch_unit: EpochUnit = Field(
        default="auto",
        description="Unit of epoch numbers. `auto` tells it from the number of digits (9-10 seconds, 12-13 "
        "milliseconds, 15-16 microseconds, 18-19 nanoseconds), which is right from 1973 on.",
    )

    @field_validator("time_zone")
    @classmethod
    def _time_zone_exists(cls, zone: str | None) -> str | None:
        if zone is not None:
            import pyarrow as pa  # here, for most logs name no zone, and a config is read without it
            import pyarrow.compute as pc

            try:
                pc.assume_timezone(
                    pa.nulls(1, pa.timestamp("us")), timezone=zone
                )  # a value would load pandas
            except pa.ArrowInvalid:
                raise ValueError(
                    f"{zone!r} is not a time zone known here; use an IANA name such as UTC"
                ) from None
        return zone

    @field_validator("time_format")
    @classmethod
    def _time_format_is_usable(cls, pattern: str | None) -> str | None:
        if pattern is not None and (
            "%" not in pattern or "%z" in pattern or "%Z" in pattern or "%f" in pattern
        ):
            raise ValueError("write a strptime pattern without %z, %Z and %f")
        return pattern

    @model_validator(mode="after")
    def _time_settings_need_times(self) -> Self:
        if self.kind == "integer" and (self.time_zone or self.time_format or self.epoch_unit != "auto"):
            raise ValueError("time_zone, time_format and epoch_unit have a meaning only with kind: time")
        return self


class EventsConfig(FileConfig):
    """The mapping from a log's files and columns to events. Every choice here is ours, not the paper's."""

    dataset: str = Field(min_length=1, description="Name of the log; part of every sample's id.")
    paths: list[str] = Field(
        min_length=1,
        description="Files, folders (read recursively) and globs (** crosses folders), local or s3://bucket/key.",
    )
    user: str = Field(min_length=1, description="Column with the user.")
    behavior: str = Field(min_length=1, description="Column with the behavior's name.")
    order: OrderConfig = Field(description="What orders the events of a user.")
    group: str | None = Field(
        default=None,
        description="Column with what a split or a bootstrap may not tear apart; null: the user.",
    )
    split_column: str | None = Field(
        default=None,
        description="Column with train, validation or test (or val, valid, dev, …), for splits by column.",
    )
    context_before: list[str] = Field(
        default=[], description="Context columns known before the event (shown for the event to predict)."
    )
    context_after: list[str] = Field(
        default=[], description="Context columns known only once the event happened (shown in history only)."
    )
    clock: list[Literal["weekday", "hour"]] = Field(
        default=[], description="Context derived from the time and known before the event. Needs kind: time."
    )
    null_values: list[str] = Field(
        default=["\\N"],
        description="Texts that stand for a missing value in any column, whole, blanks around them aside; the "
        "empty text always does.",
    )
    max_behavior_characters: int = Field(
        default=120, ge=1, description="Longer behavior names go to the quarantine."
    )
    max_context_characters: int = Field(
        default=64,
        ge=1,
        description="Longer context values are cut to this length, the last character an ellipsis.",
    )
    max_quarantine_share: float = Field(
        default=0.01, ge=0, le=1, description="Share of unusable rows above which the job fails."
    )
    max_quarantine_share_of_behavior: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Share of a behavior's own rows (two or more of them) above which the job fails; 1: never.",
    )
    exact_duplicates: Literal["keep", "drop"] = Field(
        default="keep",
        description="Events equal in user, order, behavior, group, split and context to an earlier one.",
    )
    collapse_repeats: bool = Field(
        default=False, description="Drop an event whose behavior is that of the user's previous event."
    )

    @model_validator(mode="after")
    def _columns_fit_together(self) -> Self:
        if self.clock and self.order.kind != "time":
            raise ValueError("clock needs order.kind: time; an integer order has no weekday or hour")
        context = self.context_before + self.context_after
        if self.behavior in context:
            raise ValueError(
                f"the behavior column {self.behavior!r} cannot be context: it is what is predicted"
            )
        for names, where in (
            (self.context_before + list(self.clock), "context_before and clock"),
            (self.context_after, "context_after"),
        ):
            repeated = sorted({name for name in names if names.count(name) > 1})
            if repeated:
                raise ValueError(f"{where}: {', '.join(repeated)} is there more than once")
        both = sorted(set(self.context_before) & set(self.context_after))
        if both:
            raise ValueError(f"{', '.join(both)}: either known before the event or only after it, not both")
        return self


def source_columns(config: EventsConfig) -> dict[str, str]:
    """The columns to read: role -> column of the log.

    Roles are user, order, behavior, and where configured group, split_label, before.<column>, after.<column>.
    """
    columns = {"user": config.user, "order": config.order.column, "behavior": config.behavior}
    if config.group is not None:
        columns["group"] = config.group
    if config.split_column is not None:
        columns["split_label"] = config.split_column
    columns.update({f"before.{name}": name for name in config.context_before})
    columns.update({f"after.{name}": name for name in config.context_after})
    return columns


def context_columns(config: EventsConfig) -> tuple[list[str], list[str]]:
    """Names of the normalized context columns in order of rendering: (before.*, clock included; after.*)."""
    before = [f"before.{name}" for name in [*config.context_before, *config.clock]]
    return before, [f"after.{name}" for name in config.context_after]
