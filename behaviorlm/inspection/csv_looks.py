"""How the rows of a CSV file are to be told apart, found by trying: what makes most rows equally long."""

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from behaviorlm.inspection.choices import Choice

DELIMITERS = ("::", "||", ",", ";", "\t", "|", "^", "~", "\x01", "¦", " ")
NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "blanks"}
STAND_IN = "\x1f"
MOST_ROWS = 300
MOST_LINES_BEFORE = 30
"""More lines in front of a header are not looked for (our choice)."""
FEW = 0.9
"""Share of equally long rows below which a reading is not believed."""
_SEPARATOR_LINE = re.compile(r'\A"?sep=(.{1,8}?)"?(?:\r\n|\n|\r)', re.IGNORECASE)
_NUMBER_OR_TIME = re.compile(
    r"[+-]?[\d.,]*\d[\d.,:/T Zz+-]*(?:[eE][+-]?\d+)?(?:\s?[AaPp]\.?[Mm]\.?)?|[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}"
)


@dataclass(frozen=True)
class Reading:
    """One way to take the text apart. share: of the rows that have the most common number of columns."""

    delimiter: str
    quote: str | None
    escape: str | None
    rows: list[list[str]]
    first_lines: list[int]
    columns: int
    share: float

    @property
    def score(self) -> float:
        """How much speaks for it."""
        if self.columns < 2:
            return 0.0
        penalty = 0.6 if self.delimiter == " " else 1.0
        if len(self.rows[0]) != self.columns:
            penalty *= 0.7  # decimal commas make rows alike, but not their header
        return self.share**3 * (1 - 1 / self.columns) * penalty


def csv_choices(text: str, is_cut: bool, default_delimiter: str) -> list[Choice]:
    """The keys of the mapping that the beginning of a CSV file needs. default_delimiter: what is read without a key."""
    line = _SEPARATOR_LINE.match(text)
    if line is not None:
        text = text[line.end() :]
    found: list[Choice] = []
    comments, text = _without_comments(text, found)
    delimiters = (line[1],) if line is not None else DELIMITERS
    best = _best(text, delimiters, is_cut)
    if best is None:
        return found
    if line is None and best.delimiter != default_delimiter:
        what = NAMES.get(best.delimiter, repr(best.delimiter))
        reason = f"{what} make {best.columns} columns in {best.share:.0%} of the first rows"
        found.append(Choice("delimiter", best.delimiter, reason))
    if best.quote != '"':
        reason = "values stand in single quotes" if best.quote else "quotes are text: by them rows fall apart"
        found.append(Choice("quote", best.quote, reason))
    found += _escape(text, best)
    start = _lines_before(best)
    if start:
        reason = f"the first {start} lines are not {best.columns} columns, as all later ones are"
        found.append(Choice("skip_rows", best.first_lines[start], reason))
    if not _has_header(best, start):
        found.append(_names(best, comments))
    return found


def _best(text: str, delimiters: tuple[str, ...], is_cut: bool) -> Reading | None:
    quote = "'" if _are_lines_in_single_quotes(text) else '"'
    plain = [_read(text, delimiter, quote, None, is_cut) for delimiter in delimiters]
    doubled = {one.delimiter[0] for one in plain if len(one.delimiter) > 1 < one.columns and one.share > FEW}
    plain = [reading for reading in plain if reading.delimiter not in doubled and reading.rows]
    best = max(plain, key=lambda reading: reading.score, default=None)
    if best is None or best.columns < 2:
        return best
    if '\\"' in text:
        escaped = _read(text, best.delimiter, '"', "\\", is_cut)
        # Where a value ends in a backslash the quote after it closes the value.
        if escaped.share >= best.share - 0.005 and not _ends_in_backslash(text, best.delimiter):
            best = escaped
    if _are_single_quoted(best):
        best = _read(text, best.delimiter, "'", best.escape, is_cut)
    elif best.share < FEW:
        unquoted = _read(text, best.delimiter, None, None, is_cut)
        best = unquoted if unquoted.share > max(FEW, best.share) else best
    return best


def _read(text: str, delimiter: str, quote: str | None, escape: str | None, is_cut: bool) -> Reading:
    separator = STAND_IN if len(delimiter) > 1 else delimiter
    lines = io.StringIO(text.replace(delimiter, STAND_IN) if len(delimiter) > 1 else text, newline="")
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quote is not None else csv.QUOTE_NONE
    reader = csv.reader(lines, delimiter=separator, quotechar=quote, escapechar=escape, quoting=quoting)
    rows: list[list[str]] = []
    first_lines, before = [], 0
    try:
        for row in islice(reader, 2 * MOST_ROWS):
            if row:
                rows.append(row)
                first_lines.append(before)
            before = reader.line_num
    except csv.Error:
        pass
    if is_cut and len(rows) > 2 and len(rows) < MOST_ROWS:
        rows, first_lines = rows[:-1], first_lines[:-1]
    rows, first_lines = rows[:MOST_ROWS], first_lines[:MOST_ROWS]
    columns, count = Counter(map(len, rows)).most_common(1)[0] if rows else (0, 0)
    return Reading(delimiter, quote, escape, rows, first_lines, columns, count / max(len(rows), 1))


def _escape(text: str, best: Reading) -> list[Choice]:
    if best.quote is None or f"\\{best.quote}" not in text:
        return []
    example = next(line for line in text.splitlines() if f"\\{best.quote}" in line)[:80]
    if best.escape is not None:
        return [Choice("escape", best.escape, f"a backslash stands before quotes in values: {example}")]
    return [Choice("escape", None, f"a backslash is text, also before a quote: {example}", ("\\",))]


def _ends_in_backslash(text: str, delimiter: str) -> bool:
    ends = re.compile(rf'\\"(?:{re.escape(delimiter)}|\r|\n|\Z)')
    return len(ends.findall(text)) >= text.count('\\"')


def _are_lines_in_single_quotes(text: str) -> bool:
    lines = text.splitlines()[1:MOST_ROWS]
    return sum("'" in (line[:1], line[-1:]) for line in lines) > len(lines) / 2


def _are_single_quoted(best: Reading) -> bool:
    values = [value for row in best.rows[1:] for value in row if value]
    quoted = sum(len(value) > 1 and value[0] == value[-1] == "'" for value in values)
    return bool(values) and quoted > 0.3 * len(values)


def _without_comments(text: str, found: list[Choice]) -> tuple[list[str], str]:
    """(the comments, the text without them); adds the choice where there are some."""
    lines = text.splitlines(keepends=True)
    comments = [line for line in lines if line.startswith("#")]
    if not comments or len(comments) > len(lines) / 2 or not lines[0].startswith("#"):
        return [], text
    found.append(Choice("comment", "#", f"{len(comments)} lines begin with it: {comments[0].strip()[:60]}"))
    return comments, "".join(line for line in lines if not line.startswith("#"))


def _lines_before(best: Reading) -> int:
    """Rows before the first one that is as long as most; 0 where the first is nearly as long itself."""
    for place, row in enumerate(best.rows[:MOST_LINES_BEFORE]):
        if len(row) == best.columns or len(row) > best.columns / 2 > 1:
            return place
    return 0


def _has_header(best: Reading, start: int) -> bool:
    header, body = best.rows[start], [row for row in best.rows[start + 1 :] if len(row) == best.columns]
    if not body:
        return True
    if len(set(header)) < len(header) or not all(value.strip() for value in header):
        return not any(_is_number_or_time(value) for value in header)
    are_same = False
    for place, name in enumerate(header[: best.columns]):
        values = [row[place] for row in body if row[place].strip()]
        if sum(map(_is_number_or_time, values)) > FEW * len(values) and values:
            if not _is_number_or_time(name):
                return True
            are_same = True
        elif name in values:
            are_same = True
    return not are_same


def _is_number_or_time(value: str) -> bool:
    return _NUMBER_OR_TIME.fullmatch(value.strip()) is not None


def _names(best: Reading, comments: list[str]) -> Choice:
    names = [f"column_{number + 1}" for number in range(best.columns)]
    for comment in reversed(comments):
        told = re.sub(r"\A#+\s*(?:fields:)?\s*", "", comment.strip(), flags=re.IGNORECASE)
        parts = [part.strip() for part in told.split(best.delimiter)]
        if len(set(parts)) == best.columns:
            return Choice("column_names", parts, "the file names its columns in a comment only")
    return Choice(
        "column_names", names, "the first row is an event, not a header: give them names of your own"
    )
