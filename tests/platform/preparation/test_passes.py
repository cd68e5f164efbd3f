"""Preparation against a plain loop over the log; independent of parts, files, formats and workers; quarantine."""

import gzip
import math
import subprocess
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from fractions import Fraction
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behaviorlm.errors import DataError
from behaviorlm.model.base_model import load_tokenizer
from behaviorlm.prompts.encoder import PromptEncoder
from behaviorlm_ray.console import screen
from behaviorlm_ray.pipeline import inputs
from behaviorlm_ray.pipeline.run import open_run
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.preparation import log_source
from behaviorlm_ray.preparation import passes as preparation
from behaviorlm_ray.preparation.plan import PreparationPlan, most_rows, partition_count
from behaviorlm_ray.preparation.prepared_log import PreparedLog
from tests.platform.small_runs import BEHAVIORS, log_rows, run_settings, write_log

Row = dict[str, str]
Prepare = Callable[..., tuple[PreparedLog, preparation.PreparationReport]]


WORKS = ["here", pytest.param("on_ray", marks=pytest.mark.ray)]
"""Where tasks are done."""


@pytest.fixture
def prepare(small_base: Path, tmp_path: Path) -> Prepare:
    """Prepares files as they are, without the stage around it."""

    def run(
        folder: str, *paths: Path, overrides: tuple[str, ...] = ()
    ) -> tuple[PreparedLog, preparation.PreparationReport]:
        settings = run_settings(tmp_path / "runs", small_base, *paths, overrides=overrides)
        plan = PreparationPlan(
            open_run(settings).inputs.source,
            settings.split,
            settings.prompt,
            settings.model,
            settings.preparation.min_partitions,
            tmp_path / folder,
        )
        prepared = preparation.prepare_log(plan, settings.vocabulary)
        return PreparedLog(tmp_path / folder, settings.prompt), prepared

    return run


def expected_events(files: list[list[Row]], settings: RunSettings) -> dict[tuple[str, int], dict[str, Any]]:
    """What preparation must find, by user and position: one loop over the rows."""
    numbered = [
        (row["user"], datetime.fromisoformat(row["time"]), file, number, row)
        for file, rows in enumerate(files)
        for number, row in enumerate(rows)
    ]
    numbered.sort(key=lambda entry: entry[:4])
    of_user = Counter(entry[0] for entry in numbered)
    seen: Counter[str] = Counter()
    last: dict[str, str] = {}
    result = {}
    for user, time, _, _, row in numbered:
        position, events = seen[user], of_user[user]
        held_out = [
            math.floor(Fraction(str(share)) * events)
            for share in (settings.split.validation, settings.split.test)
        ]
        validation, test = held_out if all(held_out) else (0, 0)
        left = events - position
        result[user, position] = {
            "group": user,
            "order": round(time.timestamp() * 1_000_000),
            "behavior": row["behavior"],
            "before.room": row["room"] or None,
            "before.weekday": time.strftime("%a"),
            "after.result": row["result"],
            "split": 2 if left <= test else 1 if left <= test + validation else 0,
            "is_target": position >= settings.prompt.min_history,
            "is_repeat": last.get(user) == row["behavior"],
        }
        seen[user] += 1
        last[user] = row["behavior"]
    return result


def all_events(log: PreparedLog) -> pa.Table:
    """The events of all parts by user and position."""
    return pa.concat_tables([part.table for part in log.parts]).sort_by(
        [("user", "ascending"), ("position", "ascending")]
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_parts_hold_every_event_once_as_a_plain_loop_orders_splits_and_marks_them(
    prepare: Prepare, small_base: Path, tmp_path: Path, seed: int
) -> None:
    rows = log_rows(seed, users=40)
    files = [rows[: len(rows) // 3], rows[len(rows) // 3 :]]
    paths = [write_log(tmp_path / "log" / f"{number}.csv", rows) for number, rows in enumerate(files)]
    min_history = f"prompt.min_history={seed + 1}"
    log, prepared = prepare("prepared", *paths, overrides=(min_history,))
    settings = run_settings(tmp_path, small_base, *paths, overrides=(min_history,))
    expected = expected_events(files, settings)

    found = all_events(log).to_pylist()
    assert [(row["user"], row["position"]) for row in found] == sorted(expected)
    for row in found:
        wanted = expected[row["user"], row["position"]]
        assert {name: row[name] for name in wanted} == wanted
    assert len({row["sample_id"] for row in found}) == len(rows)

    training = Counter(row["behavior"] for row in expected.values() if row["is_target"] and row["split"] == 0)
    by_count = sorted(training, key=lambda name: (-training[name], name))
    assert list(log.vocabulary.names) == by_count
    assert log.vocabulary.counts.tolist() == [training[name] for name in by_count]
    threshold = Fraction("0.09") * training.total()
    assert log.vocabulary.is_anchor.tolist() == [training[name] > threshold for name in by_count]
    counts = prepared.counts
    assert counts["rows"] == counts["events"] == len(rows) and counts["users"] == 40
    assert counts["repeats"] == sum(row["is_repeat"] for row in expected.values())
    for number, split in enumerate(("train", "validation", "test")):
        samples = [row for row in expected.values() if row["is_target"] and row["split"] == number]
        assert counts[f"samples_{split}"] == len(samples) > 0


def test_lines_and_questions_are_those_of_the_prompt_encoder(
    prepare: Prepare, small_base: Path, tmp_path: Path
) -> None:
    path = write_log(tmp_path / "log.csv", log_rows(3, users=6))
    log, _ = prepare("prepared", path)
    settings = run_settings(tmp_path, small_base, path)
    encoder = PromptEncoder(load_tokenizer(settings.model), settings.prompt)
    table = all_events(log)
    assert table["line_ids"].to_pylist() == encoder.encode_lines(table).to_pylist()
    assert table["question_ids"].to_pylist() == encoder.encode_questions(table).to_pylist()
    longest = max(len(question) for question in table["question_ids"].to_pylist())
    tokens = encoder.prompt_tokens(log.vocabulary.names, 512, longest)
    assert log.prompt.fingerprint == tokens.fingerprint


def test_the_result_does_not_depend_on_the_number_of_parts_files_and_their_format(
    prepare: Prepare, tmp_path: Path
) -> None:
    rows = log_rows(5)
    log, prepared = prepare(
        "one", write_log(tmp_path / "log.csv", rows), overrides=("preparation.min_partitions=1",)
    )
    cuts = [0, 50, 51, 140, len(rows)]
    suffixes = ("jsonl", "parquet", "csv.gz", "jsonl.gz")
    pieces = [
        write_log(tmp_path / "cut" / f"{number}.{suffix}", rows[start:stop])
        for number, (suffix, start, stop) in enumerate(zip(suffixes, cuts[:-1], cuts[1:], strict=True))
    ]
    other, other_prepared = prepare("cut", *reversed(pieces), overrides=("preparation.min_partitions=7",))
    assert len(log.parts) == 1 and len(other.parts) > 3
    assert all_events(other).equals(all_events(log))
    assert other.vocabulary == log.vocabulary
    assert other.prompt.fingerprint == log.prompt.fingerprint
    assert other_prepared.counts == prepared.counts


def test_a_small_log_is_prepared_without_ray_and_starts_no_process(
    prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_log(tmp_path / "log.csv", log_rows(6))
    started: list[object] = []
    for module in (preparation, log_source):
        monkeypatch.setattr(module, "ray", None)  # whatever is asked of it is an error
    for place, name in ((subprocess.Popen, "__init__"), (BaseProcess, "start")):
        monkeypatch.setattr(place, name, lambda *given, **_: started.append(given))
    assert prepare("prepared", path)[1].counts["users"] > 0
    assert not started


@pytest.mark.ray
def test_workers_prepare_byte_for_byte_what_this_process_does(
    prepare: Prepare, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    rows = log_rows(6, users=40)
    for index, name in ((4, "time"), (90, "user"), (133, "behavior")):
        rows[index] = {**rows[index], name: ""}
    cuts = [0, 70, 160, len(rows)]
    paths = [
        write_log(tmp_path / "log" / f"{number}.{suffix}", rows[start:stop])
        for number, (suffix, start, stop) in enumerate(
            zip(("parquet", "csv", "jsonl.gz"), cuts[:-1], cuts[1:], strict=True)
        )
    ]
    share = ("events.max_quarantine_share=0.05",)
    _, here = prepare("here", *paths, overrides=share)
    request.getfixturevalue("on_ray")
    _, by_workers = prepare("by_workers", *paths, overrides=share)
    assert by_workers == here and sum(here.counts["quarantined"].values()) == 3
    written = [
        {
            str(path.relative_to(tmp_path / name)): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in ("here", "by_workers")
    ]
    assert len(written[0]) == 9 and written[0] == written[1]


@pytest.mark.parametrize("works", WORKS)
def test_an_error_of_a_task_is_raised_whole(
    prepare: Prepare, tmp_path: Path, request: pytest.FixtureRequest, works: str
) -> None:
    if works == "on_ray":
        request.getfixturevalue(works)
    rows = log_rows(7)
    paths = [write_log(tmp_path / f"{number}.jsonl.gz", rows) for number in range(2)]
    paths[1].write_bytes(paths[1].read_bytes()[:-100])
    with pytest.raises(DataError, match=r"^[^\n]*1\.jsonl\.gz[^\n]*$"):
        prepare("prepared", *paths)


def test_samples_whose_history_does_not_fit_are_counted_and_told(
    prepare: Prepare, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_log(tmp_path / "log.csv", log_rows(3, users=12))
    whole, prepared = prepare("whole", path)
    assert prepared.counts["samples_with_cut_history"] == 0
    assert not any("past events" in warning for warning in prepared.warnings)
    cut, prepared = prepare("cut", path, overrides=("prompt.max_history_tokens=30",))
    expected = samples = 0
    for all_of_it, part in zip(whole.parts, cut.parts, strict=True):
        expected += int((part.window_start[:] > all_of_it.window_start[:])[part.is_target].sum())
        samples += int(part.is_target.sum())
    assert 0 < expected < samples and prepared.counts["samples_with_cut_history"] == expected
    told = f"{expected} of {samples} samples see fewer past events than prompt.max_events allows"
    (warning,) = [warning for warning in prepared.warnings if told in warning]
    assert "prompt.max_history_tokens allows 30 tokens of history; raise it" in warning
    assert f"prepare: {warning}" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", ["csv.gz", "jsonl", "parquet"])
def test_ties_are_broken_by_file_and_row(prepare: Prepare, tmp_path: Path, suffix: str) -> None:
    names = [BEHAVIORS[index % len(BEHAVIORS)] for index in range(60)]
    row = {"time": "2024-03-01T06:00:00Z", "user": "one", "room": "", "result": "ok"}
    rows = [{**row, "behavior": name} for name in names]
    write_log(tmp_path / "log" / f"b.{suffix}", rows[40:])
    write_log(tmp_path / "log" / f"a.{suffix}", rows[:40])
    log, _ = prepare("prepared", tmp_path / "log", overrides=("events.context_before=[]",))
    assert all_events(log)["behavior"].to_pylist() == names


def test_unusable_rows_are_counted_and_listed_with_file_and_row(prepare: Prepare, tmp_path: Path) -> None:
    rows = log_rows(6)
    bad = {4: ("time", "yesterday"), 90: ("user", ""), 133: ("behavior", ""), 180: ("time", "")}
    for index, (name, value) in bad.items():
        rows[index] = {**rows[index], name: value}
    first, second = rows[:100], rows[100:]
    paths = [write_log(tmp_path / "a.csv", first), write_log(tmp_path / "b.jsonl.gz", second)]
    log, prepared = prepare("prepared", *paths, overrides=("events.max_quarantine_share=0.05",))
    assert prepared.counts["quarantined"] == {
        "unreadable time": 1,
        "empty user": 1,
        "empty behavior": 1,
        "empty time": 1,
    }
    assert prepared.counts["rows"] == len(rows) and prepared.counts["events"] == len(rows) - 4
    listed = pq.read_table(tmp_path / "prepared" / "quarantine").to_pylist()
    assert sorted((row["file"], row["row"], row["reason"], row["value"]) for row in listed) == [
        (str(paths[0]), 5, "unreadable time", "yesterday"),
        (str(paths[0]), 91, "empty user", None),
        (str(paths[1]), 34, "empty behavior", None),
        (str(paths[1]), 81, "empty time", None),
    ]
    assert len(all_events(log)) == len(rows) - 4


def test_too_large_a_share_of_unusable_rows_fails_with_counts_and_remedy(
    prepare: Prepare, tmp_path: Path
) -> None:
    rows = log_rows(7)[:100]
    for index in range(7):
        rows[index] = {**rows[index], **({"time": "soon"} if index < 4 else {"user": ""})}
    path = write_log(tmp_path / "log.csv", rows)
    with pytest.raises(DataError) as raised:
        prepare("prepared", path, overrides=("events.max_quarantine_share=0.06",))
    message = str(raised.value)
    assert "7 of 100 rows cannot be used (7.00%; allowed are 6.00% by events.max_quarantine_share)" in message
    assert "unreadable time: 4, empty user: 3" in message
    assert str(tmp_path / "prepared" / "quarantine") in message
    assert pq.read_table(tmp_path / "prepared" / "quarantine").num_rows == 7


@pytest.mark.parametrize("works", WORKS)
def test_a_log_without_a_terminal_shows_how_far_both_passes_are(
    prepare: Prepare,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    works: str,
) -> None:
    if works == "on_ray":
        request.getfixturevalue(works)
    monkeypatch.setattr(screen, "PROGRESS_SECONDS", 0.0)
    paths = [write_log(tmp_path / f"{number}.csv", log_rows(number, users=6)) for number in range(2)]
    inputs.hash_of_files("the log", [str(path) for path in paths])
    prepare("prepared", *paths)
    told = capsys.readouterr().out.splitlines()
    for start in (
        "hashing the log: 1/2 files, ",
        "prepare: read: 2/2 files, ",
        "prepare: arranged: 3/3 parts, ",
    ):
        assert any(line.startswith(start) and " s left, " in line for line in told), (start, told)


def test_there_are_at_most_256_parts_and_what_one_process_holds_stays_what_was_asked_for() -> None:
    assert partition_count(10 * 2**20, 1, 4) == 10
    assert partition_count(0, 64, 4) == 4
    assert partition_count(2**40, 64, 4) == 256
    assert most_rows(2**34, 2**40, 64) == 2 * 2**34 // 2**14  # the log has 16,384 times 64 MiB
    assert most_rows(1000, 2**40, 64) == most_rows(0, 0, 1) == 200_000


def test_a_malformed_row_of_a_gzip_is_set_aside(prepare: Prepare, tmp_path: Path) -> None:
    rows = log_rows(8)
    path = write_log(tmp_path / "log.csv.gz", rows)
    lines = gzip.decompress(path.read_bytes()).decode().splitlines(keepends=True)
    lines.insert(11, "2024-03-01T06:00:00Z,someone\n")
    path.write_bytes(gzip.compress("".join(lines).encode()))
    _, prepared = prepare("prepared", path, overrides=("events.max_quarantine_share=0.05",))
    (listed,) = pq.read_table(tmp_path / "prepared" / "quarantine").to_pylist()
    assert (listed["file"], listed["row"], listed["reason"]) == (str(path), 11, "malformed row")
    assert "2 columns, not 5" in listed["value"]
    assert prepared.counts["events"] == len(rows)


def test_times_with_and_without_zone_are_refused_wherever_they_stand(
    prepare: Prepare, tmp_path: Path
) -> None:
    rows = log_rows(9, users=2)
    users = sorted({row["user"] for row in rows})
    naive = [{**row, "time": row["time"].removesuffix("Z")} for row in rows if row["user"] == users[0]]
    zoned = [row for row in rows if row["user"] == users[1]]
    paths = [write_log(tmp_path / "a.csv", naive), write_log(tmp_path / "b.csv", zoned)]
    for partitions in (1, 64):
        with pytest.raises(DataError, match=r"b\.csv, row 1\).*a\.csv, row 1\).*events\.order\.time_zone"):
            prepare(f"prepared-{partitions}", *paths, overrides=(f"preparation.min_partitions={partitions}",))


def test_a_user_with_200_000_events_is_one_timeline(prepare: Prepare, tmp_path: Path) -> None:
    events = 200_000
    table = pa.table(
        {
            "time": pa.array([str(index // 3) for index in range(events)]),
            "user": pa.array(["long"] * events),
            "behavior": pa.array([BEHAVIORS[index % 7] for index in range(events)]),
        }
    )
    pq.write_table(table, tmp_path / "log.parquet")
    mapping = ("events.order={column: time, kind: integer}", "events.clock=[]", "events.context_before=[]")
    log, prepared = prepare(
        "prepared", tmp_path / "log.parquet", overrides=(*mapping, "events.context_after=[]")
    )
    assert prepared.counts["events"] == events and prepared.counts["tied_events"] == events - -(-events // 3)
    (part,) = log.parts
    assert part.table["behavior"].equals(table["behavior"])
    assert part.table["position"].to_pylist() == list(range(events))
    windows = [len(window) for window in part.windows(part.targets("test"))]
    assert sum(windows) == 40_000 and max(windows) <= 3
