"""Whatever a table is written as, it is the same log or is refused for the reason that the refusal names."""

import bz2
import gzip
import io
import json
import lzma
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behaviorlm.errors import DataError
from tests.behaviorlm.events.field.field_logs import mapping, read_log, sequences

Row = tuple[str, str, int]
NAMES = ["part-1", "part-2", "part-10"]
HEADER = ["user", "action", "time"]

behaviors = st.builds(
    "b{}{}".format,
    st.text(st.sampled_from("abé\"',;|: \t\\#~\n\r="), max_size=6),
    st.sampled_from(["e", "e", "e", "\\"]),
)
tables = st.lists(
    st.lists(
        st.tuples(st.sampled_from(["u1", "ü2", "o'neil", "x y"]), behaviors, st.integers(0, 4)), max_size=8
    ),
    min_size=1,
    max_size=3,
).filter(any)


@dataclass
class Tally:
    """How many tables were read and how many refused, over all examples of a test."""

    read: int = 0
    refused: list[str] = field(default_factory=list)

    def check(self) -> None:
        """At most one in twenty may be refused."""
        assert len(self.refused) <= 0.05 * (self.read + len(self.refused)), self.refused[:3]


def expected(table: Sequence[Sequence[Row]]) -> dict[str, list[str]]:
    """Each user's behaviors by time, file and row."""
    rows = [
        (user, step, file, row, b)
        for file, part in enumerate(table)
        for row, (user, b, step) in enumerate(part)
    ]
    found: dict[str, list[str]] = {}
    for user, *_, behavior in sorted(rows):
        found.setdefault(user, []).append(behavior)
    return found


def check(
    table: Sequence[Sequence[Row]],
    contents: Sequence[bytes],
    suffix: str,
    tally: Tally,
    refused_for: Callable[[str], bool] = lambda message: False,
    **keys: Any,
) -> None:
    """Write the files and compare what is read with what is expected."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in reversed(list(zip(NAMES, contents, strict=False))):
            (Path(folder) / f"{name}{suffix}").write_bytes(content)
        order = {"column": "time", "kind": "integer"}
        try:
            _, timelines, quarantined = read_log(mapping(Path(folder), **{"order": order, **keys}))
        except DataError as error:
            assert refused_for(str(error)), error
            tally.refused.append(str(error))
            return
        assert quarantined.to_pylist() == []
        assert sequences(timelines) == expected(table)
        tally.read += 1


@dataclass(frozen=True)
class Written:
    """A way to write CSV."""

    delimiter: str
    quote: str
    escape: str | None
    line_end: str
    encoding: str
    preamble: int
    header: bool
    comment: str | None
    separator_line: bool


ways = st.builds(
    Written,
    st.sampled_from([",", ";", "\t", "|", "::", "||", "§"]),
    st.sampled_from(['"', '"', "'"]),
    st.sampled_from([None, None, "\\"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(
        ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252", "latin-1", "mac-roman"]
    ),
    st.sampled_from([0, 0, 2]),
    st.booleans(),
    st.sampled_from([None, "#", "//"]),
    st.booleans(),
)


def as_csv(rows: Sequence[Row], way: Written) -> bytes:
    """A file written that way."""

    def value(text: str) -> str:
        special = (way.delimiter, way.quote, way.escape or way.quote, "\n", "\r")
        if not any(sign in text for sign in special):
            return text
        escaped = text.replace(way.escape, way.escape * 2) if way.escape else text
        return way.quote + escaped.replace(way.quote, (way.escape or way.quote) + way.quote) + way.quote

    lines = ["exported by us", ""][: way.preamble]
    if way.separator_line and len(way.delimiter) == 1:
        lines.append(f"sep={way.delimiter}")
    lines += [way.delimiter.join(HEADER)] if way.header else []
    for index, (user, behavior, step) in enumerate(rows):
        lines += [f"{way.comment} row {index}, as {way.quote} it"] if way.comment else []
        lines.append(way.delimiter.join([value(user), value(behavior), str(step)]))
    return (way.line_end.join(lines) + way.line_end).encode(way.encoding)


@pytest.mark.parametrize(("tells_escape", "examples"), [(True, 150), (False, 50)])
def test_any_table_as_csv(tells_escape: bool, examples: int) -> None:
    tally = Tally()

    @settings(max_examples=examples, deadline=None)
    @given(tables, ways)
    def each(table: list[list[Row]], way: Written) -> None:
        keys: dict[str, Any] = {"skip_rows": way.preamble, "comment": way.comment}
        if not (way.separator_line and len(way.delimiter) == 1):
            keys["delimiter"] = way.delimiter
        if way.encoding not in ("utf-8", "utf-8-sig", "utf-16"):
            keys["encoding"] = way.encoding
        if not way.header:
            keys["column_names"] = HEADER
        if way.quote != '"':
            keys["quote"] = way.quote
        if way.escape is not None or tells_escape:
            keys["escape"] = way.escape

        def is_right(message: str) -> bool:
            texts = [text for part in table for _, text, _ in part]
            # Quotes stand around what holds a separator, a quote or a line end.
            doubtful = any(f"\\{way.quote}" in text or text.endswith("\\") for text in texts)
            empty = not way.header and not all(table) and "is empty" in message
            return empty or (
                doubtful and "escape" not in keys and "a backslash stands before a quote" in message
            )

        if not way.header:
            table = [part for part in table if part] or [[("u1", "be", 1)]]
        check(table, [as_csv(part, way) for part in table], ".csv", tally, is_right, **keys)

    each()
    if (
        tells_escape
    ):  # where nobody says whether a backslash escapes, all that have one before a quote are refused
        tally.check()


def packed(content: bytes, packing: str) -> bytes:
    """The content in a packing."""
    if packing == ".zst":
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, "zstd") as stream:
            stream.write(content)
        return sink.getvalue().to_pybytes()
    if packing == ".zip":
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("inside", content)
        return buffer.getvalue()
    packs: dict[str, Callable[[bytes], bytes]] = {
        ".gz": gzip.compress,
        ".bz2": bz2.compress,
        ".xz": lzma.compress,
    }
    return packs[packing](content) if packing else content


def test_any_table_as_json() -> None:
    tally = Tally()

    @settings(max_examples=100, deadline=None)
    @given(
        tables,
        st.sampled_from(["lines", "array", "indented", "pretty objects"]),
        st.sampled_from(["", ".gz", ".bz2", ".xz", ".zst", ".zip"]),
        st.booleans(),
        st.sampled_from(["flat", "nested", "deep", "dotted"]),
    )
    def each(table: list[list[Row]], layout: str, packing: str, is_ascii: bool, nesting: str) -> None:
        def value(user: str, behavior: str, step: int) -> dict[str, Any]:
            inner: dict[str, Any] = {"user": user, "time": step}
            nested: dict[str, dict[str, Any]] = {
                "flat": inner,
                "nested": {"p": inner, "other": [1, {"x": None}]},
                "deep": {"p": {"q.r": inner}},
                "dotted": {f"p.{name}": item for name, item in inner.items()},
            }
            return {**nested[nesting], "action": behavior}

        prefix = {"flat": "", "nested": "p.", "deep": "p.q.r.", "dotted": "p."}[nesting]
        contents = []
        for part in table:
            values = [value(*row) for row in part]
            if layout == "lines":
                text = "".join(json.dumps(item, ensure_ascii=is_ascii) + "\n" for item in values)
            elif layout == "pretty objects":
                text = "".join(json.dumps(item, ensure_ascii=is_ascii, indent=1) + "\n" for item in values)
            else:
                text = json.dumps(values, ensure_ascii=is_ascii, indent=2 if layout == "indented" else None)
            contents.append(packed(text.encode(), packing))
        keys: dict[str, Any] = {
            "user": f"{prefix}user",
            "order": {"column": f"{prefix}time", "kind": "integer"},
        }
        check(table, contents, f".json{packing}", tally, **keys)

    each()
    tally.check()


text_types = [pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.string_view()]
text_types += [pa.dictionary(pa.int32(), pa.string()), pa.dictionary(pa.int8(), pa.large_string())]
whole_types = [
    pa.int8(),
    pa.uint8(),
    pa.int16(),
    pa.int32(),
    pa.uint64(),
    pa.int64(),
    pa.float16(),
    pa.float32(),
]
whole_types += [pa.float64(), pa.decimal128(20, 0), pa.decimal128(9, 3), pa.string()]


def test_any_table_as_parquet() -> None:
    tally = Tally()

    @settings(max_examples=80, deadline=None)
    @given(tables, st.data())
    def each(table: list[list[Row]], data: st.DataObject) -> None:
        contents = []
        for part in table:  # the types differ from file to file, as in logs that grew
            user_type, action_type = (
                data.draw(st.sampled_from(text_types)),
                data.draw(st.sampled_from(text_types)),
            )
            time_type = data.draw(st.sampled_from(whole_types))
            users, actions, steps = zip(*part, strict=True) if part else ((), (), ())
            times = [Decimal(step) if pa.types.is_decimal(time_type) else step for step in steps]
            columns = {
                "user": pa.array(users, pa.string()).cast(user_type),
                "action": pa.array(actions, pa.string()).cast(action_type),
                "time": pa.array(list(map(str, steps)) if time_type == pa.string() else times, time_type),
            }
            sink = io.BytesIO()
            names = data.draw(st.permutations(list(columns)))
            pa.parquet.write_table(pa.table({name: columns[name] for name in names}), sink, row_group_size=3)
            contents.append(sink.getvalue())
        check(table, contents, ".parquet", tally)

    each()
    tally.check()
