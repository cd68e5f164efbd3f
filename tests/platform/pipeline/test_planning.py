"""What a plan tells of the log's first rows, whatever its files' format, and where it stops reading."""

from pathlib import Path

import pytest

from behaviorlm.errors import DataError
from behaviorlm_ray.pipeline.planning import describe_plan
from behaviorlm_ray.pipeline.prepare import prepare
from behaviorlm_ray.pipeline.run import Run, open_run
from behaviorlm_ray.preparation.first_rows import FirstRows, described, read_first_rows
from tests.platform.small_runs import run_settings, write_log

KINDS = ["log.csv", "log.csv.gz", "log.jsonl", "log.parquet"]


def row(number: int, **changed: str) -> dict[str, str]:
    """Event `number` of a log with two events a user, a day apart."""
    event = {"time": f"2024-03-{number + 1:02d}T06:30:00Z", "user": f"user {number // 2}", "behavior": "door"}
    return event | {"room": "hall", "result": "ok"} | changed


def run_of(tmp_path: Path, base: Path, name: str, rows: list[dict[str, str]], *overrides: str) -> Run:
    """The run of a log with these rows."""
    path = write_log(tmp_path / name, rows)
    return open_run(run_settings(tmp_path / "runs", base, path, overrides=overrides))


def first(run: Run, most: int) -> FirstRows:
    """The first rows of a run's log."""
    return read_first_rows(run.inputs.source, most)


@pytest.mark.parametrize("name", KINDS)
def test_a_plan_tells_of_the_rows_of_a_short_log(name: str, tmp_path: Path, small_base: Path) -> None:
    rows = [
        row(0),
        row(1, user=""),
        row(2),
        row(3, time="soon"),
        row(4, behavior=""),
        row(5, user=""),
        row(6),
    ]
    run = run_of(tmp_path, small_base, name, rows)
    lines = describe_plan(run, prepare(run))
    place = lines.index("input")
    assert lines[place + 2 : place + 4] == [
        "  of all 7 rows: 3 users, 2024-03-01 06:30 to 2024-03-07 06:30 UTC",
        "  4 of these cannot be used (empty user: 2, empty behavior: 1, unreadable time: 1)",
    ]
    assert not lines[place + 4]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("most", [1, 3, 4, 5, 9, 10, 11])
def test_no_more_rows_count_than_asked_for(name: str, most: int, tmp_path: Path, small_base: Path) -> None:
    rows = [row(number, **({"time": "soon"} if number in (2, 4) else {})) for number in range(10)]
    counted = min(most, 10)
    kept = [number for number in range(counted) if number not in (2, 4)]
    found = first(run_of(tmp_path, small_base, name, rows), most)
    assert (found.rows, found.are_all) == (counted, most >= 10)
    assert found.users == len({number // 2 for number in kept})
    assert found.reasons.get("unreadable time", 0) == counted - len(kept)
    assert found.span is not None
    days = (found.span[1] - found.span[0]) // 86_400_000_000
    assert days == kept[-1]


def test_rows_that_cannot_be_parsed_count_where_they_stand(tmp_path: Path, small_base: Path) -> None:
    run = run_of(tmp_path, small_base, "log.jsonl", [row(number) for number in range(4)])
    path = tmp_path / "log.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([lines[0], "{broken", *lines[1:]]) + "\n", encoding="utf-8")
    assert first(run, 2) == FirstRows(2, False, 1, first(run, 1).span, {"malformed row": 1})
    assert first(run, 1).reasons == {}
    assert first(run, 5).rows == 5 and first(run, 5).are_all


def test_files_are_one_log(tmp_path: Path, small_base: Path) -> None:
    paths = [
        write_log(tmp_path / name, [row(number), row(number + 1)])
        for number, name in enumerate(["a.csv", "b.parquet"])
    ]
    run = open_run(run_settings(tmp_path / "runs", small_base, *paths))
    assert first(run, 4) == FirstRows(4, True, 2, first(run, 4).span, {})
    assert (first(run, 3).rows, first(run, 3).are_all, first(run, 3).users) == (3, False, 1)
    assert (first(run, 2).rows, first(run, 2).are_all) == (2, False)


def test_what_was_not_read_is_not_claimed(tmp_path: Path, small_base: Path) -> None:
    rows = [row(number) | {"time": str(7 * number)} for number in range(6)]
    run = run_of(tmp_path, small_base, "log.csv", rows, "events.order.kind=integer", "events.clock=[]")
    events = run.settings.events
    assert described(first(run, 4), events) == ["of the first 4 rows: 2 users, order 0 to 21"]
    assert described(first(run, 6), events) == ["of all 6 rows: 3 users, order 0 to 35"]


def test_a_plan_tells_what_is_left_out_and_what_this_machine_lacks(
    tmp_path: Path, small_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    many = "execution.tuning.workers=999"
    run = run_of(tmp_path, small_base, "log.csv", [row(0), row(2), row(4)], many)
    lines = describe_plan(run, prepare(run))
    assert "not measured" in lines[lines.index("left out") + 1]
    lacking = [line for line in lines if line.startswith("  not here: ")]
    assert "999 workers" in lacking[0]
    assert "RAY_TMPDIR" in lacking[-1]  # where tests without Ray let none start
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.5:6379")
    assert not [line for line in describe_plan(run, prepare(run)) if "not here" in line]


def test_a_row_that_ends_preparation_is_told_by_the_plan(tmp_path: Path, small_base: Path) -> None:
    run = run_of(tmp_path, small_base, "log.csv", [row(0), row(1, time="2024-05-31 14:05:09")])
    with pytest.raises(DataError, match=r"log\.csv: some times have a zone"):
        describe_plan(run, prepare(run))
