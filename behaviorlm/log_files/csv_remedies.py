"""What to set where a CSV file does not have the columns that it should: the mapping that its beginning fits."""

import csv
import re
from collections.abc import Iterator

from behaviorlm.log_files.config import EventsConfig
from behaviorlm.log_files.csv_dialects import SEPARATOR_LINE
from behaviorlm.log_files.csv_files import CsvHead
from behaviorlm.log_files.explode import file_columns, list_keys

DELIMITERS = (",", ";", "\t", "|", "::", "||", "~", "^", "\x01", ", ", "; ")
MOST_LINES = 30
"""So many lines at the beginning of a file are tried as its header."""
LEAST_ROWS = 2
"""Fewer rows do not show how the rows of a file are."""
_LIKE_A_VALUE = re.compile(r"[+-]?\d[\d.,:/ TZ+-]*\Z|[0-9a-f]{8}-[0-9a-f]{4}-|https?://|\{|\[", re.IGNORECASE)


def head_problem(head: CsvHead, config: EventsConfig) -> str | None:
    """What is wrong with a head that has the columns it should."""
    columns = file_columns(config)
    if list_keys(config):
        return (
            "values of CSV files are no lists, which events.explode names; leave it out, or list "
            "{order, behavior} pairs"
        )
    if config.column_names is not None and head.rows:
        first = head.rows[0]
        if len(first) != len(config.column_names):
            return (
                f"its first row has {len(first)} values, but events.column_names names {len(config.column_names)}"
                f"{remedy(head, config)}"
            )
        if any(
            value.strip() == name
            for name, value in zip(config.column_names, first, strict=True)
            if name in columns.values()
        ):
            return (
                f"its first row is a header ({', '.join(first)[:80]}); leave events.column_names out, or set "
                f"events.skip_rows: {config.skip_rows + 1} to give other names"
            )
    if len(head.rows) < LEAST_ROWS:
        return None
    return _lengths_problem(head, config) or _quotes_problem(head, config)


def _lengths_problem(head: CsvHead, config: EventsConfig) -> str | None:
    """That the rows, all alike, have more values than the header has names or fewer, so that none could be used."""
    count, names = len(head.rows[0]), list(head.names)
    if count == len(names) or any(len(row) != count for row in head.rows):
        return None
    if count < len(names) and not any(name.strip() for name in names[count:]):
        what, names = "the header ends with separators, the rows do not", names[:count]
    elif count > len(names) and not any(value.strip() for row in head.rows for value in row[len(names) :]):
        what = "the rows end with separators, the header does not"
        names += [f"empty_{number}" for number in range(1, count - len(names) + 1)]
    elif count == len(names) + 1:
        what, names = "perhaps each begins with the name of the row, as R writes it", ["row", *names]
    else:
        return None
    lines = config.skip_rows + 1
    delimiter = ""
    if SEPARATOR_LINE.match(head.beginning.encode()):
        lines, delimiter = lines + 1, f", events.delimiter: {head.delimiter!r}"
    return (
        f"its header has {len(head.names)} names, but its rows have {count} values ({what}); set events.skip_rows: "
        f"{lines}{delimiter} and events.column_names: [{', '.join(names)}]"
    )


def _quotes_problem(head: CsvHead, config: EventsConfig) -> str | None:
    """That values stand in quotes which would be part of them."""
    columns = file_columns(config)
    for role in ("user", "behavior", "order"):
        if columns.get(role) not in head.names:
            continue
        at = head.names.index(columns[role])
        values = [row[at] for row in head.rows if len(row) > at and row[at].strip()]
        if config.quote == "auto" and values and all(_is_in(value.strip(), "'") for value in values):
            return (
                f"all values of the column {columns[role]!r} stand in single quotes ({values[0][:40]}); set "
                "events.quote: \"'\" to read them without, or events.quote: '\"' where they are part of "
                "the values"
            )
        quoted = [value for value in values if value[0] in " \t" and _is_in(value.strip(), '"')]
        if config.quote is not None and len(quoted) > len(values) / 2:
            return (
                f"values of the column {columns[role]!r} have a blank before their quotes ({quoted[0][:40]!r}), which "
                f"are text there; set events.delimiter: '{head.delimiter} ' (with the blank) to read them without, or "
                "events.quote: null where they are part of the values"
            )
    return None


def remedy(head: CsvHead, config: EventsConfig) -> str:
    """What would bring the columns that the mapping names, to be added to a message; empty where that is not known."""
    wanted = set(file_columns(config).values())
    for number, delimiter, quote, names in _headers(head.beginning):
        if wanted <= set(names):
            changes = []
            if delimiter != head.delimiter:
                changes.append(f"events.delimiter: {delimiter!r}")
            if quote == "'":
                changes.append('events.quote: "\'"')
            if number != config.skip_rows:
                changes.append(f"events.skip_rows: {number}")
            if not changes:
                continue
            doubt = ""
            if delimiter != head.delimiter:
                few = "only " if len(head.names) < len(wanted) else ""
                doubt = f"{few}{len(head.names)} here: is events.delimiter really {head.delimiter!r}? "
            return f" ({doubt}set {' and '.join(changes)})"
    if any(_LIKE_A_VALUE.match(name.strip()) for name in head.names) and config.column_names is None:
        return " (that looks like a row of data: if the file has no header, name its columns in events.column_names)"
    if len(head.names) == 1:
        return f" (only one: is events.delimiter really {head.delimiter!r}?)"
    return ""


def _headers(beginning: str) -> Iterator[tuple[int, str, str, list[str]]]:
    """(lines before it, delimiter, quote, names) of all that could be the header."""
    for number, line in enumerate(re.split(r"\r\n|\n|\r", beginning)[:MOST_LINES]):
        for delimiter in DELIMITERS:
            for quote in ('"', "'"):
                if len(delimiter) > 1:
                    names = [name.strip(quote) for name in line.split(delimiter)]
                else:
                    try:
                        names = next(csv.reader([line], delimiter=delimiter, quotechar=quote), [])
                    except csv.Error:
                        continue
                yield number, delimiter, quote, names


def _is_in(text: str, quote: str) -> bool:
    return len(text) > 1 and text[0] == text[-1] == quote
