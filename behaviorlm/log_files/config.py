"""What a behavior log looks like: which files, which columns, what orders the events."""

from typing import Literal, Self

from pydantic import Field, model_validator

from behaviorlm.log_files.file_config import FileConfig
from behaviorlm.times.order import OrderConfig, format_problem


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
    session: str | None = Field(
        default=None,
        description="Column with the session: a user's sessions follow each other by their first event, the events of "
        "one by the order. null: all events of a user by the order.",
    )
    histories_cross_sessions: bool = Field(
        default=True,
        description="Whether the history of an event reaches into the user's earlier sessions. Needs session where "
        "false.",
    )
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
    clock: list[Literal["weekday", "hour", "since_last"]] = Field(
        default=[],
        description="Context derived from the time and known before the event. since_last: how long ago the user's "
        "event before was, in eleven classes from <1m to >7d. Needs kind: time.",
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
    max_tie_share: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Share of events equal in order to the one before above which a warning says what would put them "
        "in order.",
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
        if self.clock and not self.order.has_time:
            raise ValueError("clock needs order.kind: time; an integer order has no weekday or hour")
        if "since_last" in self.clock and self.order.columns[0].kind != "time":
            raise ValueError("clock: since_last needs a time as the first column of order")
        if "hour" in self.clock:
            first = next(column for column in self.order.columns if column.kind == "time")
            problem = format_problem(first.time_format, needs_hour=True)
            if problem is not None:
                raise ValueError(f"order.time_format {first.time_format!r}: {problem}")
        if self.session is None and not self.histories_cross_sessions:
            raise ValueError("histories_cross_sessions: false needs session, the column with the session")
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

    Roles are user, order (order_2, … for its further columns), behavior, and where configured session, group,
    split_label, before.<column>, after.<column>.
    """
    columns = {"user": config.user, "behavior": config.behavior}
    columns.update({column.role: column.name for column in config.order.columns})
    if config.session is not None:
        columns["session"] = config.session
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
