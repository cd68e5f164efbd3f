"""How the files of a log are to be taken apart: the part of the mapping that is about files, not about events."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from behaviorlm.config import Settings

FileFormat = Literal["csv", "jsonl", "parquet"]

_WRITTEN_CHARACTER = re.compile(r"\\(?:t|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4}))")


class EventOfRow(Settings):
    """One of several events that a wide row holds."""

    order: str = Field(min_length=1, description="Column that orders this event, such as its time.")
    behavior: str | None = Field(default=None, min_length=1, description="Column with this event's behavior.")
    name: str | None = Field(
        default=None,
        min_length=1,
        description="The behavior of all events of this kind, in place of a column.",
    )

    @model_validator(mode="after")
    def _has_one_behavior(self) -> Self:
        if (self.behavior is None) == (self.name is None):
            raise ValueError("set either behavior (a column) or name (the behavior itself)")
        return self


class FileConfig(Settings):
    """What the files of a log are. `auto` never guesses: it takes what a file says of itself, or the common default."""

    format: Literal["auto", "csv", "jsonl", "parquet"] = Field(
        default="auto",
        description="Format of all files; `auto` tells it from the suffix (.csv .tsv .txt .jsonl .ndjson .json "
        ".parquet .pq .parq, in any case; .gz .bz2 .zst .xz .zip may follow). jsonl: an object a line, or an array.",
    )
    encoding: str = Field(
        default="auto",
        description="Encoding of CSV and JSON files, any that Python knows (cp1252, utf-16-le, shift_jis). "
        "`auto`: UTF-8, or UTF-16 and UTF-32 where a file begins with their byte-order mark.",
    )
    delimiter: str = Field(
        default="auto",
        min_length=1,
        max_length=8,
        description="Column separator of CSV files, one character or several (`::`). `auto`: what a first line "
        "`sep=;` says, a tab in .tsv files, else a comma.",
    )
    quote: str | None = Field(
        default="auto",
        description='Character around CSV values that hold separators; null: none, quotes are text. `auto`: `"`, and '
        "files whose values all stand in single quotes are refused.",
    )
    escape: str | None = Field(
        default="auto",
        description="Character that takes the meaning from a quote, separator or line end after it (`\\` in files "
        'of Spark, MySQL, Postgres). null: none. `auto`: none, and files with `\\"` in quoted values are refused.',
    )
    skip_rows: int = Field(
        default=0,
        ge=0,
        description="Lines at the beginning of each CSV file to pass over, before its header.",
    )
    comment: str | None = Field(
        default=None,
        min_length=1,
        description="Lines of CSV files that begin with this text are passed over.",
    )
    column_names: list[str] | None = Field(
        default=None,
        min_length=1,
        description="Names of the columns of CSV files without a header, in order. null: the first row names them.",
    )
    explode: (
        str
        | Annotated[list[str], Field(min_length=1)]
        | Annotated[list[EventOfRow], Field(min_length=1)]
        | None
    ) = Field(
        default=None,
        description="Rows that hold several events. A key: of a list in each row of JSON or Parquet, each item "
        "an event; several keys: of lists that run side by side; keys inside of items are written with dots "
        "(`events.action`). Or a list of {order, behavior} or {order, name} of columns: each an event of the row "
        "where it is not empty, and `behavior` and `order.column` of the mapping name no column of the file.",
    )

    @field_validator("explode", mode="before")
    @classmethod
    def _explode_is_of_one_kind(cls, value: Any) -> Any:
        items = value if isinstance(value, list) else [value]
        if value is None or (items and all(isinstance(item, str) and item for item in items)):
            return value
        if not items or not all(isinstance(item, dict | EventOfRow) for item in items):
            raise ValueError(
                "a key of a list, several such keys, or a list of {order, behavior} or {order, name} of columns"
            )
        return [_event_of_row(place, item) for place, item in enumerate(items)]

    @field_validator("encoding")
    @classmethod
    def _encoding_is_known(cls, encoding: str) -> str:
        if encoding != "auto":
            try:
                b" ".decode(encoding, errors="ignore")
            except (LookupError, ValueError):
                raise ValueError(
                    f"{encoding!r} is no text encoding that Python knows; such are utf-8, utf-16-le, cp1252, latin-1, "
                    "cp1251, shift_jis, gb18030"
                ) from None
        return encoding

    @field_validator("delimiter")
    @classmethod
    def _delimiter_separates(cls, delimiter: str) -> str:
        # YAML leaves \t alone where it is not in double quotes; no log is separated by a backslash and a t.
        delimiter = _WRITTEN_CHARACTER.sub(
            lambda match: chr(int(match[1] or match[2], 16)) if match[1] or match[2] else "\t", delimiter
        )
        if re.search(r"[\r\n\0]", delimiter):
            raise ValueError("a line end or NUL cannot separate columns")
        return delimiter

    @field_validator("quote", "escape")
    @classmethod
    def _is_one_character(cls, character: str | None) -> str | None:
        if character not in ("auto", None) and not re.fullmatch(r"[\t -~]", character):
            raise ValueError("one ASCII character, null for none, or auto")
        return character

    @field_validator("column_names")
    @classmethod
    def _names_differ(cls, names: list[str] | None) -> list[str] | None:
        repeated = sorted({name for name in names or [] if (names or []).count(name) > 1})
        if repeated:
            raise ValueError(f"{', '.join(map(repr, repeated))} is there more than once")
        return names

    @model_validator(mode="after")
    def _signs_differ(self) -> Self:
        signs = {"delimiter": self.delimiter, "quote": self.quote, "escape": self.escape}
        told = {key: sign for key, sign in signs.items() if sign not in ("auto", None)}
        if "quote" not in told and self.quote == "auto":
            told["quote"] = '"'
        for key, sign in told.items():
            for other, other_sign in told.items():
                # An escape that is the quote itself is what doubling is called elsewhere.
                if key < other and {key, other} != {"escape", "quote"} and other_sign in sign:
                    raise ValueError(f"{key} {sign!r} and {other} {other_sign!r} must differ")
        if self.escape not in ("auto", None) and self.escape == told.get("quote"):
            raise ValueError(
                f"escape {self.escape!r}: a doubled quote is read anyway; leave escape out or null"
            )
        return self


def _event_of_row(place: int, item: Any) -> EventOfRow:
    try:
        return EventOfRow.model_validate(item)
    except ValidationError as error:
        said = "; ".join(": ".join([*map(str, one["loc"]), one["msg"]]) for one in error.errors())
        raise ValueError(f"item {place}: {said}") from None
