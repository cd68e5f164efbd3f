"""Written times: what is read by fixed widths is what the pattern's regular expression reads, of any text."""

from dataclasses import fields, replace
from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behaviorlm.times.time_patterns import ISO, TimePattern, compile_pattern
from behaviorlm.times.written_times import read_written

PATTERNS = {
    "iso": ISO,
    **{
        pattern: compile_pattern(pattern)
        for pattern in (
            "%d/%m/%Y %H:%M:%S",
            "%m/%d/%Y %I:%M %p",
            "%d-%b-%y %H:%M:%S.%f",
            "%Y%m%d%H%M%S",
            "%Y-%m-%dT%H:%M:%S%z",
        )
    },
}
SHAPES = {
    "iso": [
        "%Y-%m-%d",
        "%Y/%m/%d %H:%M",
        "%Y-%m-%dT%H:%M:%S.%fZ",
        "%Y-%m-%d %H:%M:%S+05:30",
        "%Y-%m-%d %H:%M:%S,%f-0800",
    ],
}


@pytest.mark.parametrize("name", PATTERNS)
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_fixed_widths_and_the_regular_expression_read_alike(name: str, data: st.DataObject) -> None:
    shapes = SHAPES.get(name, [name.replace("%z", "+0100")])
    moments = data.draw(
        st.lists(st.datetimes(datetime(1970, 1, 1), datetime(2068, 1, 1)), min_size=1, max_size=12)
    )
    texts: list[str | None] = [None]
    for moment in moments:
        text = moment.strftime(data.draw(st.sampled_from(shapes)))
        if data.draw(st.booleans()):  # one character changed, left out or added
            place = data.draw(st.integers(0, len(text) - 1))
            changed = data.draw(st.sampled_from(["", "0", "9", " ", "a", "-", ".", "T", "1/", "é"]))
            text = text[:place] + changed + text[place + data.draw(st.integers(0, 1)) :]
        texts.append(text.strip())
    pattern: TimePattern = PATTERNS[name]
    by_width = read_written(pa.array(texts, pa.string()), pattern)
    by_regex = read_written(pa.array(texts, pa.string()), replace(pattern, forms=()))
    assert by_width.is_readable.tolist() == by_regex.is_readable.tolist(), texts
    for field in fields(by_width):
        both = [getattr(written, field.name)[by_width.is_readable] for written in (by_width, by_regex)]
        assert np.array_equal(*both), (field.name, texts)


def test_every_day_of_the_calendar_is_read() -> None:
    days = np.arange("0001-01-01", "9999-12-31", 13, dtype="datetime64[D]")
    written = read_written(pa.array(days.astype(str).tolist()), ISO)
    assert written.is_readable.all()
    assert np.array_equal(written.clock, days.astype("datetime64[us]").astype(np.int64))
