"""Values of Arrow's types as text."""

import pyarrow as pa
import pytest

from behaviorlm.log_files.parquet_text import as_text


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("beyond", [[], [2**62]])
def test_times_of_utc_are_written_as_the_cast_writes_them(unit: str, beyond: list[int]) -> None:
    numbers = [-62_135_596_800, -1, 0, 1, None, 1_700_000_000, 7_133_701_809_754_865, *beyond]
    values = pa.array(numbers, pa.int64()).cast(pa.timestamp(unit, tz="UTC"))
    assert as_text(values).equals(values.cast(pa.string()))
