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
    """Event `number` of a log with two events a user, a day apart; every other user ends with the alarm."""
    behavior = "alarm" if number % 4 == 3 else "door"
    event = {
        "time": f"2024-03-{number + 1:02d}T06:30:00Z",
        "user": f"user {number // 2}",
        "behavior": behavior,
    }
    return event | {"room": "hall", "result": "ok"} | changed


def run_of(tmp_path: Path, base: Path, name: str, rows: list[dict[str, str]], *overrides: str) -> Run:
    """The run of a log with these rows."""
    path = write_log(tmp_path / name, rows)
    return open_run(run_settings(tmp_path / "runs", base, path, overrides=overrides))


def first(run: Run, most: int) -> FirstRows:
    """The first rows of a run's log."""
    asked = run.settings
    return read_first_rows(run.inputs.source, asked.split, asked.prompt.min_history, asked.vocabulary, most)


@pytest.mark.parametrize("name", KINDS)
def test_a_plan_tells_of_the_rows_of_a_short_log(name: str, tmp_path: Path, small_base: Path) -> None:
    rows = [row(number) for number in range(8)]
    rows += [row(8, user=""), row(9, time="soon"), row(10, behavior=""), row(11, user="")]
    shares = ("events.max_quarantine_share=0.5", "split.validation=0", "split.test=0")
    run = run_of(tmp_path, small_base, name, rows, *shares)
    lines = describe_plan(run, prepare(run))
    place = lines.index("input")
    end = lines.index("", place)
    path = tmp_path / name
    assert lines[place + 2 : end] == [
        "  of all 12 rows:",
        "    read        1 file, 12 rows",
        "    time        2024-03-01 06:30 to 2024-03-08 06:30 UTC (7 days)",
        "    users       4; the largest, 'user 0', has 25.0% of the events",
        "    events      8; a user has 2 to 2, half of them 2 or fewer",
        "    ties        0 (0.0%) have the time of the user's event before; files and rows order them",
        "    duplicates  0 (0.0%) exact",
        "    repeats     2 (25.0%) have the behavior of the user's event before, kept",
        f"    quarantine  4 (33.33%) cannot be used: empty user: 2 (such as nothing in {path}, row 9); "
        f"empty behavior: 1 (such as nothing in {path}, row 11); unreadable time: 1 (such as 'soon' in "
        f"{path}, row 10); by behavior 'alarm' 1 of 3; 'door' 2 of 8",
        "    behaviors   2, 2 anchors and 0 tail; from 'door' (75.0% of the events) to 'alarm' (2 events)",
        "    splits      train 8 events (4 targets), validation 0 events (0 targets), test 0 events (0 targets)",
        "    note: no target is in the split validation or test",
        "    of these rows: every behavior is an anchor: there is no tail to learn",
    ]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("most", [1, 3, 4, 5, 9, 10, 11])
def test_no_more_rows_count_than_asked_for(name: str, most: int, tmp_path: Path, small_base: Path) -> None:
    rows = [row(number, **({"time": "soon"} if number in (2, 4) else {})) for number in range(10)]
    counted = min(most, 10)
    kept = [number for number in range(counted) if number not in (2, 4)]
    tolerant = "events.max_quarantine_share=0.5", "events.max_quarantine_share_of_behavior=1"
    found = first(run_of(tmp_path, small_base, name, rows, *tolerant), most)
    assert (found.facts.rows, found.are_all) == (counted, most >= 10)
    assert found.facts.users == len({number // 2 for number in kept})
    assert found.facts.quarantined.get("unreadable time", 0) == counted - len(kept)
    assert found.facts.span is not None
    days = (found.facts.span[1] - found.facts.span[0]) // 86_400_000_000
    assert days == kept[-1]


def test_rows_that_cannot_be_parsed_count_where_they_stand(tmp_path: Path, small_base: Path) -> None:
    run = run_of(tmp_path, small_base, "log.jsonl", [row(number) for number in range(4)])
    path = tmp_path / "log.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([lines[0], "{broken", *lines[1:]]) + "\n", encoding="utf-8")
    two = first(run, 2)
    assert (two.facts.rows, two.are_all, two.facts.users) == (2, False, 1)
    assert two.facts.quarantined == {"malformed row": 1}
    assert any("1 of 2 rows cannot be used" in problem for problem in two.problems)
    assert first(run, 1).facts.quarantined == {}
    with pytest.raises(
        DataError, match=r"1 of 5 rows cannot be used(.|\n)*of all 5 rows:\n +read +1 file, 5 rows\n"
    ):
        first(run, 5)


def test_files_with_and_without_a_zone_are_refused_by_name(tmp_path: Path, small_base: Path) -> None:
    paths = [
        write_log(tmp_path / "a.csv", [row(0), row(1)]),
        write_log(tmp_path / "b.csv", [row(number, time=f"2024-04-0{number} 06:30:00") for number in (2, 3)]),
    ]
    run = open_run(run_settings(tmp_path / "runs", small_base, *paths))
    with pytest.raises(
        DataError, match=r"have a zone \(.*a\.csv, row 1\) and some have none \(.*b\.csv, row 1\)"
    ):
        first(run, 10)


def test_a_split_column_that_splits_nothing_is_told(tmp_path: Path, small_base: Path) -> None:
    rows = [row(number) | {"part": "train"} for number in range(8)]
    run = run_of(tmp_path, small_base, "log.csv", rows, "events.split_column=part")
    told = [problem for problem in first(run, 10).problems if "its labels split nothing" in problem]
    assert len(told) == 1 and "'part'" in told[0] and "'time'" in told[0]


def test_files_are_one_log(tmp_path: Path, small_base: Path) -> None:
    paths = [
        write_log(tmp_path / name, [row(2 * number), row(2 * number + 1)])
        for number, name in enumerate(["a.csv", "b.parquet"])
    ]
    run = open_run(run_settings(tmp_path / "runs", small_base, *paths))
    found = [first(run, most) for most in (2, 3, 4)]
    assert [(one.facts.rows, one.are_all, one.facts.users) for one in found] == [
        (2, False, 1),
        (3, False, 2),
        (4, True, 2),
    ]


def test_what_was_not_read_is_not_claimed(tmp_path: Path, small_base: Path) -> None:
    rows = [row(number) | {"time": str(7 * number)} for number in range(6)]
    run = run_of(tmp_path, small_base, "log.csv", rows, "events.order.kind=integer", "events.clock=[]")
    events = run.settings.events
    of_four = described(first(run, 4), events)
    assert of_four[0] == "of the first 4 rows (there are more; `prepare` reads them all):"
    assert "  order       0 to 21" in of_four
    of_six = described(first(run, 6), events)
    assert of_six[0] == "of all 6 rows:" and "  order       0 to 35" in of_six


def test_what_ends_the_preparation_of_the_first_rows_only_is_told(tmp_path: Path, small_base: Path) -> None:
    run = run_of(tmp_path, small_base, "log.csv", [row(number) for number in range(6)])
    shown = described(first(run, 3), run.settings.events)
    assert shown[-1].startswith("  of these rows: the log holds one behavior only, 'door'")
    only = run_of(tmp_path, small_base, "one.csv", [row(number, behavior="door") for number in range(6)])
    with pytest.raises(DataError, match="the log holds one behavior only, 'door'"):
        describe_plan(only, prepare(only))


BY_LABEL = ("split.by=column", "events.split_column=room", "events.context_before=[]")


@pytest.mark.parametrize(
    ("changed", "overrides", "message"),
    [
        (
            {"room": "eval"},
            BY_LABEL,
            r"log\.csv, row 4: events\.split_column holds 'eval' \(1 events\); allowed are",
        ),
        ({"room": ""}, BY_LABEL, r"log\.csv, row 4: events\.split_column holds None"),
        (
            {"room": "cellar"},
            ("split.by=group", "events.group=room", "events.context_before=[]"),
            r"log\.csv, rows 3 and 4: user 'user 1' is in the groups 'train' and 'cellar'",
        ),
    ],
)
def test_rows_that_stand_against_the_split_are_refused_by_the_plan(
    tmp_path: Path, small_base: Path, changed: dict[str, str], overrides: tuple[str, ...], message: str
) -> None:
    rows = [row(number, room="train") for number in range(6)]
    rows[3] |= changed
    run = run_of(tmp_path, small_base, "log.csv", rows, *overrides)
    with pytest.raises(DataError, match=message):
        describe_plan(run, prepare(run))


def test_a_plan_says_that_labels_leave_nothing_to_train_on(tmp_path: Path, small_base: Path) -> None:
    rows = [row(number, room="dev" if number % 2 else "Test") for number in range(6)]
    run = run_of(tmp_path, small_base, "log.csv", rows, *BY_LABEL)
    with pytest.raises(
        DataError, match=r"no event is in the split train; the column holds 'Test' \(3 events\), 'dev'"
    ):
        describe_plan(run, prepare(run))


def test_a_plan_tells_what_is_left_out_and_what_this_machine_lacks(
    tmp_path: Path, small_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    many = "execution.tuning.workers=999"
    run = run_of(tmp_path, small_base, "log.csv", [row(number) for number in range(8)], many)
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


def test_what_was_settled_for_the_log_and_its_ties_are_told(tmp_path: Path, small_base: Path) -> None:
    rows = [row(number) | {"time": str(1_704_000_000 + number // 4)} for number in range(8)]
    run = run_of(tmp_path, small_base, "log.csv", rows)
    lines = "\n".join(describe_plan(run, prepare(run)))
    assert (
        "time: numbers are seconds since 1970 (unix): 2023-12-31 to 2023-12-31 (1704000000 is 2023-12-31"
        in lines
    )
    assert "4 of 8 events (50.0%) are equal in order (time)" in lines and "can be trusted" in lines
