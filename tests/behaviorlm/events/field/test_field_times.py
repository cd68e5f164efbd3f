"""Times as people write them: read exactly as pandas or Python reads the same texts, or refused with what to write."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from behaviorlm.errors import DataError
from behaviorlm.events.log import find_log
from tests.behaviorlm.events.field.field_logs import mapping, read_log, written

# Not in the order of time, so that a wrong reading shows in the sequence.
MOMENTS = pd.DatetimeIndex(
    [
        pd.Timestamp("2024-03-13 09:08:07.53"),
        pd.Timestamp("2024-01-02 14:05:09"),
        pd.Timestamp("2024-11-20 02:45:33.25"),
        pd.Timestamp("2024-02-29 00:00:00"),
        pd.Timestamp("2024-01-02 02:05:09"),
        pd.Timestamp("2023-12-31 23:59:58"),
        pd.Timestamp("2024-12-01 12:30:00"),
    ],
).as_unit("ns")
NAMES = [f"b{number}" for number in range(len(MOMENTS))]


def log_of(texts: list[str]) -> str:
    quoted = "".join(f'u,{name},"{text}"\n' for name, text in zip(NAMES, texts, strict=True))
    return f"user,action,time\n{quoted}"


def read_back(folder: Path, texts: list[str], **changes: Any) -> tuple[list[int], list[str], int]:
    """(moments in the order of the timeline, its behaviors, rows quarantined) of one user's log."""
    _, timelines, quarantined = read_log(mapping(written(folder, {"log.csv": log_of(texts)}), **changes))
    return timelines["order"].to_pylist(), timelines["behavior"].to_pylist(), quarantined.num_rows


def expected(moments: pd.DatetimeIndex) -> tuple[list[int], list[str], int]:
    """The same by pandas."""
    table = pd.DataFrame({"at": moments, "name": NAMES}).sort_values("at", kind="stable")
    since = (table["at"] - pd.Timestamp("1970-01-01")) // pd.Timedelta(microseconds=1)
    return since.tolist(), table["name"].tolist(), 0


@pytest.mark.parametrize(
    "pattern",
    [
        "%d/%m/%Y %H:%M:%S.%f",
        "%m/%d/%Y %I:%M:%S.%f %p",
        "%d.%m.%Y %H:%M:%S",
        "%b %d, %Y %I:%M %p",
        "%a, %d %b %Y %H:%M:%S",
        "%A %d %B %Y %H:%M",
        "%d-%b-%y %H.%M.%S",
        "%Y%m%d%H%M%S",
        "%Y%m%d%H%M%S%f",
        "%y%m%d %H%M",
        "%G-W%V-%u %H:%M",
        "%Y-%j %H:%M:%S",
        "%H:%M:%S %d/%m/%Y",
        "%d/%b/%Y:%H:%M:%S",
        "%d/%m/%Y",
    ],
)
def test_a_pattern_reads_what_pandas_reads_by_it(tmp_path: Path, pattern: str) -> None:
    texts = [moment.strftime(pattern) for moment in MOMENTS]
    reference = pd.DatetimeIndex([datetime.strptime(text, pattern) for text in texts])
    assert read_back(tmp_path, texts, order={"column": "time", "time_format": pattern}) == expected(reference)


def test_single_digits_are_read_by_a_pattern_as_pandas_reads_them(tmp_path: Path) -> None:
    texts = [
        f"{at.day}/{at.month}/{at.year} {at.hour % 12 or 12}:{at:%M:%S} {'am' if at.hour < 12 else 'pm'}"
        for at in MOMENTS
    ]
    reference = pd.to_datetime(texts, format="%d/%m/%Y %I:%M:%S %p")
    order = {"column": "time", "time_format": "%d/%m/%Y %I:%M:%S %p"}
    assert read_back(tmp_path, texts, order=order) == expected(reference)


@pytest.mark.parametrize("digits", [1, 2, 3, 6, 7, 9])
@pytest.mark.parametrize("point", [".", ","])
def test_fractions_of_any_length_are_read(tmp_path: Path, digits: int, point: str) -> None:
    texts = [f"{at:%Y-%m-%d %H:%M:%S}{point}{at.microsecond:06d}000"[: 20 + digits] for at in MOMENTS]
    reference = pd.DatetimeIndex([pd.Timestamp(text.replace(",", ".")) for text in texts])
    assert read_back(tmp_path, texts) == expected(reference)
    fixed = {"column": "time", "time_format": f"%Y-%m-%d %H:%M:%S{point}%f"}
    assert read_back(tmp_path, texts, order=fixed) == expected(reference)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_fractions_beyond_nanoseconds_decide(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    fractions = data.draw(
        st.lists(
            st.text("0123456789", min_size=1, max_size=24),
            min_size=7,
            max_size=7,
            unique_by=lambda text: text.rstrip("0"),
        )
    )
    texts = [f"2024-01-02T03:04:05.{fraction}Z" for fraction in fractions]
    _, names, _ = read_back(tmp_path_factory.mktemp("log"), texts)
    assert names == [
        name for _, name in sorted(zip([text.ljust(24, "0") for text in fractions], NAMES, strict=True))
    ]


@pytest.mark.parametrize(
    "write",
    [
        lambda at: at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        lambda at: f"{at.year}-{at.month}-{at.day} {at.hour}:{at:%M:%S.%f}",
        lambda at: at.strftime("%Y/%m/%d %H:%M:%S.%f"),
        lambda at: (at + timedelta(hours=5, minutes=30)).strftime("%Y-%m-%d %H:%M:%S.%f+0530"),
        lambda at: (at - timedelta(hours=8)).strftime("%Y-%m-%dT%H:%M:%S.%f-08"),
        lambda at: at.strftime("%Y-%m-%d %H:%M:%S.%f UTC"),
        lambda at: at.strftime("%Y-%m-%dt%H:%M:%S.%fz"),
    ],
)
def test_iso_8601_and_its_siblings_are_the_same_moments(tmp_path: Path, write: Any) -> None:
    assert read_back(tmp_path, [write(at) for at in MOMENTS]) == expected(MOMENTS)


@pytest.mark.parametrize("value", ["2024-01-02 23:59:60", "2024-01-02 24:00:00", "2024-02-30", "2024-13-01"])
def test_a_time_that_is_in_no_calendar_is_quarantined(tmp_path: Path, value: str) -> None:
    texts = [str(at) for at in MOMENTS]
    texts[3] = value
    _, names, quarantined = read_back(tmp_path, texts)
    assert quarantined == 1 and NAMES[3] not in names


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("%m/%d/%Y %H:%M:%S %p", "%p has no effect beside %H.*write %I"),
        ("%m/%d/%Y %I:%M:%S", "does not tell the hour; write %H, or %I together with %p"),
        ("%Y-%M-%d", r"does not tell the month.*write %m \(%M is the minute\)"),
        ("%d/%m %H:%M", "does not tell the year"),
        ("%m/%Y", "does not tell the day"),
        ("%Y-%m-%d %M:%S", "does not tell the hour"),
        ("%Y-%m-%d %H:%S", "does not tell the minute"),
        ("%H:%M:%S", "does not tell the year and the month and the day"),
        ("%Y-W%U-%w", "%U, %w is not read here"),
        ("%Y-W%V-%u", "%V has no effect beside %Y"),
        ("%Y-%m-%d %b", "no effect beside"),
        ("%Y-%m-%d %y", "%y has no effect beside %Y"),
        ("%Y-%m-%d %H:%M:%S %H", "hour is there twice"),
        ("%Y-%m-%dT%H:%M:%SZ", "'Z' at its end is a zone.*write %z"),
        ("%Y-%m-%d %H:%M:%S UTC", "'UTC' at its end is a zone"),
        ("dd/mm/yyyy", "without any directive"),
        ("%c", "%c is not read here"),
    ],
)
def test_a_pattern_that_does_not_fix_the_moment_is_refused_with_the_remedy(pattern: str, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        mapping(Path("log.csv"), order={"column": "time", "time_format": pattern})


def test_a_pattern_without_an_hour_is_refused_where_the_clock_asks_for_it() -> None:
    order = {"column": "time", "time_format": "%d/%m/%Y"}
    mapping(Path("log.csv"), order=order, clock=["weekday"])
    with pytest.raises(ValidationError, match=r"does not tell the hour that events\.clock asks for"):
        mapping(Path("log.csv"), order=order, clock=["hour"])


@pytest.mark.parametrize("write", ["%Y-%m-%d", "%Y%m%d"])
def test_dates_without_an_hour_are_refused_where_the_clock_asks_for_it(tmp_path: Path, write: str) -> None:
    texts = [at.strftime(write) for at in MOMENTS]
    assert read_back(tmp_path, texts, clock=["weekday"])[2] == 0
    with pytest.raises(DataError, match=r"log\.csv, row 1: .*without an hour, which events\.clock asks for"):
        read_back(tmp_path, texts, clock=["hour"])


@pytest.mark.parametrize(
    ("write", "said"),
    [
        ("%d/%m/%Y %H:%M", r'Set .*time_format: "%d/%m/%Y %H:%M".*decides which is the day'),
        ("%d.%m.%y", r'"%d\.%m\.%y"'),
        ("%Y-%m-%d %I:%M:%S %p", '"%Y-%m-%d %I:%M:%S %p"'),
        ("%a %b %d %H:%M:%S %Y", '"%a %b %d %H:%M:%S %Y"'),
        ("%d %b %Y, %H:%M", '"%d %b %Y, %H:%M"'),
        ("%G-W%V-%u", '"%G-W%V-%u"'),
        ("%H:%M:%S.%f", "kind: duration.*the date is another column"),
        ("on %d", "Set events.order.time_format to the strptime pattern"),
    ],
)
def test_times_in_no_known_form_are_refused_with_their_pattern(tmp_path: Path, write: str, said: str) -> None:
    texts = [at.strftime(write) for at in MOMENTS]
    with pytest.raises(DataError, match=rf"(?s)log\.csv, row 1: '{texts[0][:4]}.*{said}"):
        read_back(tmp_path, texts)


def test_days_and_months_that_nothing_decides_are_refused_with_both(tmp_path: Path) -> None:
    texts = [f"{month:02d}/02/2024" for month in range(1, 8)]
    with pytest.raises(
        DataError, match=r'"%d/%m/%Y" \(01/02/2024 is 2024-02-01.*"%m/%d/%Y" \(01/02/2024 is 2024-01-02'
    ):
        read_back(tmp_path, texts)


def test_a_pattern_of_the_wrong_order_is_refused_by_the_first_values(tmp_path: Path) -> None:
    texts = [at.strftime("%d/%m/%Y") for at in MOMENTS]
    with pytest.raises(DataError, match=r'no time by time_format \'%m/%d/%Y\'.*"%d/%m/%Y"'):
        read_back(tmp_path, texts, order={"column": "time", "time_format": "%m/%d/%Y"})


UNITS = {"seconds": 1, "milliseconds": 1000, "microseconds": 10**6, "nanoseconds": 10**9}


@pytest.mark.parametrize("form", ["plain", ".0", "exponent"])
@pytest.mark.parametrize("unit", UNITS)
def test_the_unit_of_epoch_numbers_is_told_by_their_moments(tmp_path: Path, unit: str, form: str) -> None:
    whole = MOMENTS.floor("s")
    seconds = [int(at.timestamp()) for at in whole]
    forms = {
        "plain": lambda second: str(second * UNITS[unit]),
        ".0": lambda second: f"{second * UNITS[unit]}.0",
        "exponent": lambda second: (
            f"{str(second)[0]}.{str(second)[1:]}e+{len(str(second * UNITS[unit])) - 1}"
        ),
    }
    texts = [forms[form](second) for second in seconds]
    assert read_back(tmp_path, texts) == expected(whole)
    log = find_log(mapping(tmp_path))
    assert log.events.order.epoch_unit == unit
    assert any(unit in note and str(whole[0]) in note for note in log.notes)


@pytest.mark.parametrize(
    ("epoch", "unit", "text_of"),
    [
        ("2001", "seconds", lambda at: f"{(at - pd.Timestamp('2001-01-01')) / pd.Timedelta(seconds=1):.2f}"),
        (
            "2001",
            "nanoseconds",
            lambda at: str((at - pd.Timestamp("2001-01-01")) // pd.Timedelta(nanoseconds=1)),
        ),
        ("1904", "seconds", lambda at: f"{(at - pd.Timestamp('1904-01-01')) / pd.Timedelta(seconds=1):.2f}"),
        (
            "1601",
            "ticks",
            lambda at: str((at - pd.Timestamp("1970-01-01")) // pd.Timedelta(100) + 116444736 * 10**9),
        ),
        (
            "1601",
            "microseconds",
            lambda at: str((at - pd.Timestamp("1970-01-01")) // pd.Timedelta(1000) + 11644473600 * 10**6),
        ),
        (
            "0001",
            "ticks",
            lambda at: str((at - pd.Timestamp("1970-01-01")) // pd.Timedelta(100) + 621355968 * 10**9),
        ),
        ("excel", "days", lambda at: repr((at - pd.Timestamp("1899-12-30")) / pd.Timedelta(days=1))),
        ("julian", "days", lambda at: repr(float(at.to_julian_date()))),
        ("unix", "days", lambda at: repr((at - pd.Timestamp("1970-01-01")) / pd.Timedelta(days=1))),
    ],
)
def test_another_epoch_is_refused_with_the_candidate_and_read_once_it_is_named(
    tmp_path: Path, epoch: str, unit: str, text_of: Any
) -> None:
    # Doubles of days hold milliseconds at best.
    texts = [text_of(at) for at in MOMENTS]
    remedy = rf"epoch: {epoch}, epoch_unit: {unit} \(2023-12-31 to 2024-12-01\)"
    with pytest.raises(DataError, match=rf"(?s)row 1: '{texts[0]}'.*{remedy}"):
        read_back(tmp_path, texts)
    order = {"column": "time", "epoch": epoch, "epoch_unit": unit}
    assert read_back(tmp_path, texts, order=order) == expected(MOMENTS)


def test_small_numbers_are_no_moments(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"unit is not sure.*kind: integer.*kind: duration"):
        read_back(tmp_path, [str(number) for number in range(7)])


@pytest.mark.parametrize(
    ("write", "pattern"),
    [("%Y%m%d", "%Y%m%d"), ("%Y%m%d%H%M", "%Y%m%d%H%M"), ("%Y%m%d%H%M%S.0", "%Y%m%d%H%M%S")],
)
def test_calendar_digits_are_dates_and_that_is_told(tmp_path: Path, write: str, pattern: str) -> None:
    texts = [at.strftime(write) for at in MOMENTS]
    reference = pd.to_datetime([text.removesuffix(".0") for text in texts], format=pattern)
    assert read_back(tmp_path, texts) == expected(reference)
    assert pattern in find_log(mapping(tmp_path)).notes[0]


def test_what_lies_outside_the_settled_unit_is_quarantined(tmp_path: Path) -> None:
    seconds = [1_704_000_000 + number * 3_600 for number in range(300)]
    texts = [str(second) for second in seconds]
    texts[100], texts[200], texts[250], texts[290] = "1704300000000", "0", "nan", "20240131"
    rows = "".join(f"u,b{number},{text}\n" for number, text in enumerate(texts))
    _, timelines, quarantined = read_log(mapping(written(tmp_path, {"log.csv": f"user,action,time\n{rows}"})))
    assert timelines.num_rows == 296
    assert {(row["row"], row["reason"]) for row in quarantined.to_pylist()} == {
        (101, "unreadable time"), (201, "time out of range"), (251, "unreadable time"), (291, "time out of range"),
    }  # fmt: skip


def test_the_unit_is_settled_by_all_files_not_by_each(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {
        f"{month}.csv": f"user,action,time\nu,x,{1_704_000_000 + month}\n" for month in range(1, 6)
    }
    files["6.csv"] = "user,action,time\nu,y,1704000000000\n"
    with pytest.raises(
        DataError, match=r"two units.*1\.csv, row 1: '1704000001'.*6\.csv, row 1: '1704000000000'"
    ):
        read_log(mapping(written(tmp_path, files)))


@pytest.mark.parametrize("kind", [pa.float64(), pa.int64()])
def test_numbers_of_parquet_are_read_value_by_value(tmp_path: Path, kind: pa.DataType) -> None:
    is_whole = kind == pa.int64()
    values = [at.timestamp() * 1000 + (0 if is_whole else 0.25) for at in MOMENTS]
    table = {
        "user": ["u"] * 8,
        "action": [*NAMES, "gone"],
        "time": pa.array([*map(int, values), None] if is_whole else [*values, float("nan")], kind),
    }
    pq.write_table(pa.table(table), tmp_path / "log.parquet")
    _, timelines, quarantined = read_log(mapping(tmp_path))
    shift = pd.Timedelta(0 if is_whole else 250_000)
    assert (timelines["order"].to_pylist(), timelines["behavior"].to_pylist(), 0) == expected(MOMENTS + shift)
    assert quarantined["reason"].to_pylist() in (["unreadable time"], ["empty time"])


def test_a_local_clock_is_read_as_zoneinfo_reads_it_also_over_summer_time(tmp_path: Path) -> None:
    zone = ZoneInfo("America/New_York")
    # A skipped hour, an hour that comes twice, and hours around both.
    texts = [
        "2024-03-10 01:59:59", "2024-03-10 03:00:00", "2024-11-03 00:59:59", "2024-11-03 01:30:00",
        "2024-11-03 02:00:00", "2024-07-01 12:00:00", "2024-01-01 12:00:00",
    ]  # fmt: skip
    reference = pd.DatetimeIndex(
        [
            datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC).replace(tzinfo=None)
            for text in texts
        ]
    )
    order = {"column": "time", "time_zone": "America/New_York"}
    assert read_back(tmp_path, texts, order=order) == expected(reference)


def test_a_zone_in_a_pattern_is_the_moment_s(tmp_path: Path) -> None:
    texts = [
        at.tz_localize("UTC").tz_convert("Asia/Kolkata").strftime("%d/%m/%Y %H:%M:%S.%f %z") for at in MOMENTS
    ]
    order = {"column": "time", "time_format": "%d/%m/%Y %H:%M:%S.%f %z"}
    assert read_back(tmp_path, texts, order=order) == expected(MOMENTS)


@settings(max_examples=60, deadline=None)
@given(
    moments=st.lists(
        st.datetimes(datetime(1970, 1, 2), datetime(2068, 1, 1)), min_size=7, max_size=7, unique=True
    ),
    day=st.permutations(["%d", "%m", "%Y"]),
    between=st.sampled_from("/.- "),
    clock=st.sampled_from(["%H:%M:%S.%f", "%I:%M:%S.%f %p", "%H.%M.%S.%f", "%H%M%S%f"]),
    is_padded=st.booleans(),
)
def test_any_pattern_reads_back_what_python_writes_by_it(
    tmp_path_factory: pytest.TempPathFactory,
    moments: list[datetime],
    day: list[str],
    between: str,
    clock: str,
    is_padded: bool,
) -> None:
    pattern = f"{between.join(day)} {clock}"
    shown = pattern if is_padded else pattern.replace("%d", "%-d").replace("%m", "%-m")
    texts = [moment.strftime(shown) for moment in moments]
    order = {"column": "time", "time_format": pattern}
    assert read_back(tmp_path_factory.mktemp("log"), texts, order=order) == expected(
        pd.DatetimeIndex(moments)
    )


def test_times_before_and_after_what_is_allowed_are_quarantined(tmp_path: Path) -> None:
    texts = [str(at) for at in MOMENTS]
    order = {"column": "time", "earliest": "2024-01-01", "latest": "2024-11-30"}
    _, names, quarantined = read_back(tmp_path, texts, order=order)
    assert quarantined == 2 and set(NAMES) - set(names) == {"b5", "b6"}
