"""What puts a user's events in order: columns, kinds, and how times are written. Light: no array library."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, Self, get_args

from pydantic import Field, ValidationInfo, field_validator, model_validator

from behaviorlm.config import Settings

OrderKind = Literal["time", "integer", "duration"]
EpochUnit = Literal[
    "auto", "days", "hours", "minutes", "seconds", "milliseconds", "microseconds", "ticks", "nanoseconds"
]
HOURS_AND_MINUTES, MINUTES_AND_SECONDS = "%H:%M", "%M:%S"
DURATION_FORMATS = (HOURS_AND_MINUTES, MINUTES_AND_SECONDS)
"""What a duration of two numbers can be."""
ISO_FORMAT = "iso"
"""As time_format: ISO 8601 and nothing else."""


Epoch = Literal["unix", "2001", "1601", "1904", "1900", "0001", "excel", "julian"]


@dataclass(frozen=True)
class OrderColumn:
    """One of the columns of an order, with what holds for it. role: its name in tables of text (`source_columns`)."""

    role: str
    name: str
    kind: OrderKind
    time_zone: str | None
    time_format: str | None
    epoch_unit: EpochUnit
    epoch: str
    earliest: date | None
    latest: date | None


class OrderConfig(Settings):
    """What puts the events of a user in order."""

    column: str | list[str] = Field(
        min_length=1,
        description="Column that orders the events of a user; or several, the first counts most "
        "([order_number, add_to_cart_order]).",
    )
    kind: OrderKind | list[OrderKind] = Field(
        default="time",
        description="`time`: ISO 8601 (2024-05-31T14:05:09.5+02:00; zone and fraction may be absent), an epoch number, "
        "or by time_format; `integer`: any whole number of 64 bits, such as a step; `duration`: hh:mm:ss.ff since a "
        "start, also over 24 hours. One for each column, or one for all.",
    )
    time_zone: str | None = Field(
        default=None,
        description="IANA name (Europe/Prague): the zone of times written without one, and of the clock "
        "columns. null: such times count as UTC, and a log that mixes both kinds is refused.",
    )
    time_format: str | list[str | None] | None = Field(
        default=None,
        description="strptime pattern (%d/%m/%Y %H:%M:%S) of times not in ISO 8601; it must tell the whole date, and "
        "the hour where events.clock asks for it. `iso`: ISO 8601 only, no numbers. Of durations of two numbers: "
        "%H:%M or %M:%S. A list: one for each column.",
    )
    epoch_unit: EpochUnit | list[EpochUnit] = Field(
        default="auto",
        description="Unit of epoch numbers (ticks: 100 ns). `auto`: the one by which the log's first times lie between "
        "2000 and a year from now; where there is none the log is refused. A list: one for each column.",
    )
    epoch: Epoch | list[Epoch] = Field(
        default="unix",
        description="Where epoch numbers begin: unix (1970), 2001 (Apple), 1904 (Macintosh), 1601 (Windows, WebKit), "
        "1900 (NTP), 0001 (.NET), excel (serial days), julian (days). A list: one for each column.",
    )
    earliest: date | None = Field(
        default=None, description="Times before this date (UTC) go to the quarantine; null: none do."
    )
    latest: date | None = Field(
        default=None,
        description="Times after this date (UTC) go to the quarantine; null: none do, but with epoch_unit: auto those "
        "after a year from now, and those before 2000.",
    )
    file_order: Literal["oldest_first", "newest_first"] = Field(
        default="oldest_first",
        description="How the rows of a file follow each other: what decides between events that are equal in order.",
    )

    @property
    def names(self) -> list[str]:
        """The columns, the first counts most."""
        return [self.column] if isinstance(self.column, str) else list(self.column)

    @property
    def columns(self) -> tuple[OrderColumn, ...]:
        """The columns with what holds for each."""
        count = len(self.names)
        each = zip(
            self.names,
            _for_each(self.kind, count),
            _for_each(self.time_format, count),
            _for_each(self.epoch_unit, count),
            _for_each(self.epoch, count),
            strict=True,
        )
        return tuple(
            OrderColumn(
                "order" if place == 0 else f"order_{place + 1}",
                name,
                kind,
                self.time_zone,
                time_format
                if kind != "integer" and (kind == "duration") == (time_format in DURATION_FORMATS)
                else None,
                unit,
                epoch,
                self.earliest,
                self.latest,
            )
            for place, (name, kind, time_format, unit, epoch) in enumerate(each)
        )

    @property
    def first_kind(self) -> OrderKind:
        """The kind of the column that counts most."""
        return self.columns[0].kind

    @property
    def has_time(self) -> bool:
        """Whether any column is a time."""
        return any(column.kind == "time" for column in self.columns)

    @field_validator("column", mode="before")
    @classmethod
    def _column_is_named(cls, value: Any) -> Any:
        names = value if isinstance(value, list) else [value]
        if not all(isinstance(name, str) and name for name in names) or not names:
            raise ValueError("name a column, or several in a list")
        return value

    @field_validator("kind", "epoch_unit", "epoch", mode="before")
    @classmethod
    def _value_is_known(cls, value: Any, info: ValidationInfo) -> Any:
        allowed = get_args({"kind": OrderKind, "epoch_unit": EpochUnit, "epoch": Epoch}[str(info.field_name)])
        values = value if isinstance(value, list) else [value]
        if info.field_name == "epoch":
            # YAML reads 2001 as a number, and 0001 as 1.
            values = [f"{item:04d}" if type(item) is int else item for item in values]
        for item in values:
            if item not in allowed:
                raise ValueError(f"allowed are {', '.join(allowed)}, or a list of them, one for each column")
        return values if isinstance(value, list) else values[0]

    @field_validator("time_zone")
    @classmethod
    def _time_zone_exists(cls, zone: str | None) -> str | None:
        if zone is not None:
            import pyarrow as pa  # here, for most logs name no zone, and a config is read without it
            import pyarrow.compute as pc

            try:
                # a value would load pandas
                pc.assume_timezone(pa.nulls(1, pa.timestamp("us")), timezone=zone)
            except pa.ArrowInvalid:
                raise ValueError(
                    f"{zone!r} is not a time zone known here; use an IANA name such as UTC"
                ) from None
        return zone

    @model_validator(mode="after")
    def _settings_fit_the_columns(self) -> Self:
        count = len(self.names)
        if len(set(self.names)) < count or not all(self.names):
            raise ValueError(f"column: each is named once, got {self.names}")
        for key in ("kind", "time_format", "epoch_unit", "epoch"):
            value = getattr(self, key)
            if isinstance(value, list) and len(value) != count:
                raise ValueError(
                    f"{key} has {len(value)} values for {count} columns; give one for each, or one for all"
                )
        formats = _for_each(self.time_format, count)
        for kind, pattern in zip(_for_each(self.kind, count), formats, strict=True):
            problem = format_problem(pattern, needs_hour=False) if kind == "time" else None
            if (
                kind == "duration"
                and pattern not in (None, *DURATION_FORMATS)
                and formats is self.time_format
            ):
                problem = f"a duration is {' or '.join(DURATION_FORMATS)}, or null for all other forms"
            if problem is not None:
                raise ValueError(f"time_format {pattern!r}: {problem}")
        units, epochs = _for_each(self.epoch_unit, count), _for_each(self.epoch, count)
        # lists of what nothing else was said of are no setting: a log of several columns is settled to such ones
        numbers = {*units, *epochs} - {"auto", "unix"} or self.earliest or self.latest
        of_times = [pattern for pattern in formats if pattern not in (None, *DURATION_FORMATS)]
        if not self.has_time and (self.time_zone or of_times or numbers):
            raise ValueError(
                "time_zone, time_format, epoch_unit, epoch, earliest and latest have a meaning only with kind: time"
            )
        if self.earliest and self.latest and self.latest < self.earliest:
            raise ValueError(f"latest ({self.latest}) lies before earliest ({self.earliest})")
        return self


def format_problem(pattern: str | None, needs_hour: bool) -> str | None:
    """Why times of this time_format cannot be read, or do not tell the hour; None where all is well."""
    if pattern is None or pattern == ISO_FORMAT:
        return None
    # brings pyarrow, which other configs do without
    from behaviorlm.times.pattern_probes import pattern_problem

    return pattern_problem(pattern, needs_hour)


def _for_each(value: Any, count: int) -> Sequence[Any]:
    return value if isinstance(value, list) else [value] * count
