"""Epoch numbers: exact in every unit and epoch, whole columns at a time or number by number."""

from fractions import Fraction

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behaviorlm.times.epochs import EPOCHS, FIRST, LAST, REMAINDERS, UNITS, read_epochs

# Of days, what a table's doubles hold: milliseconds.
EXACT_UNITS = [unit for unit in UNITS if unit != "days"]
numbers = st.one_of(
    st.integers(-(10**6), 2**65).map(str),
    st.decimals(0, 10**13, places=9).map(str),
    st.from_regex(r"\A[0-9]{1,19}\.[0-9]{0,20}\Z"),
    st.from_regex(r"\A-?[0-9]\.[0-9]{1,17}[eE]\+?[0-9]{1,2}\Z"),
)


@settings(max_examples=150, deadline=None)
@given(
    texts=st.lists(numbers, min_size=1, max_size=8),
    unit=st.sampled_from(EXACT_UNITS),
    epoch=st.sampled_from(sorted(EPOCHS)),
)
def test_every_number_is_the_moment_that_fractions_give(texts: list[str], unit: str, epoch: str) -> None:
    moments, remainders, readable = read_epochs(pa.array(texts), unit, epoch)  # type: ignore[arg-type]
    for text, moment, remainder, is_readable in zip(texts, moments, remainders, readable, strict=True):
        exact = Fraction(text) * UNITS[unit] - EPOCHS[epoch] * 1_000_000  # type: ignore[index]
        assert is_readable == (FIRST <= exact < LAST + 1), text
        if is_readable:
            assert int(moment) == exact.numerator // exact.denominator, text
            assert int(remainder) == int((exact - int(moment)) * REMAINDERS), text


def test_days_are_rounded_to_milliseconds() -> None:
    moments, remainders, readable = read_epochs(
        pa.array(["45292.583333333336", "45292", "x", None]), "days", "excel"
    )
    assert (moments[:2] - 1_704_067_200_000_000).tolist() == [14 * 3_600_000_000, 0]
    assert remainders.tolist() == [0] * 4
    assert readable.tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    "text", ["", "nan", "inf", "-Infinity", "1_000", "٣", "0x10", "1e99999999", "1.5.2", "1" * 500]
)
def test_what_is_no_number_is_unreadable(text: str) -> None:
    assert not read_epochs(pa.array([text, "5"]), "seconds", "unix")[2][0]
