"""Batch prediction: what `BehaviorModel` says of the same histories, each row once, whatever happens on the way."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from behaviorlm.baselines.habits import Habits
from behaviorlm.errors import ConfigError, DataError
from behaviorlm.predictor.artifact import read_artifact
from behaviorlm.predictor.behavior_model import BehaviorModel
from behaviorlm.predictor.writing import write_description
from behaviorlm_ray import storage
from behaviorlm_ray.commands.check import main as check_main
from behaviorlm_ray.commands.predict import main
from behaviorlm_ray.prediction import parts
from behaviorlm_ray.prediction.running import described, opened_artifact, plan_prediction
from behaviorlm_ray.storage import S3Location
from tests.behaviorlm.predictor.small_artifacts import NAMES, history, without_context, write_artifact
from tests.platform.prediction.predicted_logs import (
    SIZES,
    HereAndNow,
    predicted,
    rows_of,
    settings,
    user_rows,
    write_rows,
)


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact that counts, and the folder of it."""
    folder = tmp_path_factory.mktemp("artifact") / "counts"
    write_artifact(folder, Path(), "counts")
    return folder


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "log.csv", user_rows())


def asked_one_by_one(model: BehaviorModel, place: int, position: int, k: int) -> Any:
    """What the model says of the first events of a user, and of the context of the next, if there is one."""
    events = history(SIZES[place], seed=place)
    following = events[position] if position < len(events) else None
    return model.predict(
        events[:position],
        {"room": following["room"]} if following else None,
        at=following["time"] if following else None,
        k=k,
    )


@pytest.mark.parametrize("kind", ["counts", "habits", "fused"])
def test_every_row_is_what_the_model_says_of_the_same_history(
    kind: str, counting: Path, small_base: Path, log: Path, tmp_path: Path
) -> None:
    folder = counting
    if kind == "fused":
        folder = tmp_path / kind
        write_artifact(folder, small_base, kind)
    if kind == "habits":
        folder = tmp_path / kind
        write_artifact(folder, Path(), "counts", habits=Habits(of_user=3, of_last=1))
    summary = predicted(settings(folder, log, tmp_path / "out", every=True, k=3))
    model = BehaviorModel.load(folder, device="cpu")
    rows = rows_of(tmp_path / "out").to_pylist()
    assert summary.predictions == len(rows) == sum(SIZES) + len(SIZES)
    assert [(row["user"], row["position"]) for row in rows] == [
        (f"user {place}", position) for place, size in enumerate(SIZES) for position in range(size + 1)
    ]
    for row in rows:
        place = int(row["user"].removeprefix("user "))
        found = asked_one_by_one(model, place, row["position"], len(NAMES))
        by_name = {answer.behavior: answer.probability for answer in found.answers}
        assert row["behaviors"] == [answer.behavior for answer in found.answers[:3]]
        assert row["probabilities"] == pytest.approx(list(by_name.values())[:3], abs=1e-5)
        assert row["group"] == found.answers[0].group and row["events_used"] == found.events_used
        events = history(SIZES[place], seed=place)
        is_last = row["position"] == len(events)
        assert row["actual"] == (None if is_last else events[row["position"]]["behavior"])
        if not is_last:
            assert row["actual_place"] == 1 + list(by_name).index(row["actual"])
            assert row["actual_probability"] == pytest.approx(by_name[row["actual"]], abs=1e-5)
        assert (row["at"] is None) == is_last and (row["after"] is None) == (row["position"] == 0)
        assert ("no_history" in row["warnings"]) == (row["position"] == 0)
        assert ("time_unknown" in row["warnings"]) == is_last == ("context_unknown" in row["warnings"])


def test_a_log_without_context_is_predicted_as_the_model_does(
    counting: Path, log: Path, tmp_path: Path
) -> None:
    folder = without_context(counting, tmp_path / "bare")
    predicted(settings(folder, log, tmp_path / "out", every=True, k=len(NAMES)))
    model = BehaviorModel.load(folder)
    for row in rows_of(tmp_path / "out").to_pylist():
        place = int(row["user"].removeprefix("user "))
        said = model.predict(history(SIZES[place], seed=place)[: row["position"]], k=len(NAMES))
        assert row["probabilities"] == pytest.approx([answer.probability for answer in said.answers])
        assert not set(row["warnings"]) & {"time_unknown", "context_unknown"}


def test_a_log_in_the_order_of_two_numbers_is_predicted_as_the_model_does(
    counting: Path, tmp_path: Path
) -> None:
    folder = without_context(counting, tmp_path / "numbers")
    artifact = read_artifact(folder)
    events = artifact.events.model_dump() | {"order": {"column": ["visit", "step"], "kind": "integer"}}
    mapping = type(artifact.events).model_validate(events)
    write_description(folder, artifact.model_copy(update={"events": mapping}))
    rows = [event | {"visit": place // 3, "step": place} for place, event in enumerate(history(9))]
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(row | {"user": "u"}) + "\n" for row in rows[::-1]), encoding="utf-8")
    predicted(settings(folder, log, tmp_path / "out", every=True, k=len(NAMES)))
    model = BehaviorModel.load(folder)
    for row in rows_of(tmp_path / "out").to_pylist():
        said = model.predict(rows[: row["position"]], k=len(NAMES))
        assert row["probabilities"] == pytest.approx([answer.probability for answer in said.answers])


def test_the_latest_of_each_user_and_as_of_a_time(counting: Path, log: Path, tmp_path: Path) -> None:
    summary = predicted(settings(counting, log, tmp_path / "latest"))
    rows = rows_of(tmp_path / "latest").to_pylist()
    assert [row["position"] for row in rows] == list(SIZES) and summary.users == len(SIZES)
    moment = "2024-03-01T04:30:00Z"  # after the fifth event of who has so many
    predicted(settings(counting, log, tmp_path / "moment", at=moment, k=len(NAMES)))
    model = BehaviorModel.load(counting)
    for place, row in enumerate(rows_of(tmp_path / "moment").to_pylist()):
        assert row["position"] == min(SIZES[place], 5) and "time_unknown" not in row["warnings"]
        found = model.predict(history(SIZES[place], seed=place), at=moment, k=len(NAMES))
        assert row["probabilities"] == pytest.approx([answer.probability for answer in found.answers])


def test_since_a_time_are_the_positions_whose_next_event_came_then_or_later(
    counting: Path, log: Path, tmp_path: Path
) -> None:
    predicted(settings(counting, log, tmp_path / "out", since="2024-03-01T12:15:00Z"))
    found = Counter(rows_of(tmp_path / "out")["user"].to_pylist())
    assert list(found.values()) == [1 + max(0, size - 12) for size in SIZES]


def test_a_job_that_was_cut_off_goes_on_and_ends_the_same(
    counting: Path, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "CHUNK", 7)
    predicted(settings(counting, log, tmp_path / "whole", every=True))
    expected = rows_of(tmp_path / "whole")
    asked = settings(counting, log, tmp_path / "out", every=True)
    for tasks in (0, 1, 3, 4):
        with pytest.raises(KeyboardInterrupt):
            predicted(asked, HereAndNow(tasks))
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/predictions").rglob("*.parquet")}
    assert written
    assert predicted(asked).predictions == len(expected)
    assert rows_of(tmp_path / "out").equals(expected)
    assert all(path.stat().st_mtime_ns == time for path, time in written.items())
    assert not (tmp_path / "out/progress").exists() and not (tmp_path / "out/scratch").exists()
    assert predicted(asked, HereAndNow(0)).predictions == len(expected)  # nothing is left to do


def test_a_chunk_whose_files_were_written_but_not_reported_is_there_once(
    counting: Path, log: Path, tmp_path: Path
) -> None:
    asked = settings(counting, log, tmp_path / "out", every=True, partition_by="behavior")
    with pytest.raises(KeyboardInterrupt):
        predicted(asked, HereAndNow(5))
    stray = tmp_path / "out/predictions/behavior_id=99/part-00001-00000.parquet"
    stray.parent.mkdir()
    pq.write_table(rows_of(tmp_path / "out"), stray)  # as if it came out otherwise the first time
    for report in (tmp_path / "out/progress").glob("part-*"):
        report.unlink()
    assert predicted(asked).predictions == len(rows_of(tmp_path / "out")) == sum(SIZES) + len(SIZES)


@pytest.mark.parametrize(
    ("by", "key"), [("behavior", "behavior_id"), ("group", "group"), ("user", "user_hash")]
)
def test_rows_lie_in_the_folders_that_were_asked_for(
    by: str, key: str, counting: Path, log: Path, tmp_path: Path
) -> None:
    predicted(settings(counting, log, tmp_path / "out", every=True, partition_by=by))
    found = ds.dataset(tmp_path / "out/predictions", partitioning="hive").to_table()
    assert len(found) == sum(SIZES) + len(SIZES)
    if by == "behavior":
        first = [NAMES[number] for number in found[key].to_pylist()]
        assert first == [behaviors[0] for behaviors in found["behaviors"].to_pylist()]
    if by == "user":
        assert len(set(zip(found["user"].to_pylist(), found[key].to_pylist(), strict=True))) == len(SIZES)


def test_another_jobs_folder_is_refused_naming_what_differs(
    counting: Path, log: Path, tmp_path: Path
) -> None:
    predicted(settings(counting, log, tmp_path / "out", k=2))
    with pytest.raises(ConfigError, match="differs in k, wanted"):
        predicted(settings(counting, log, tmp_path / "out", k=3, every=True))
    write_rows(log, user_rows([3, 4]))
    with pytest.raises(ConfigError, match="differs in log;"):
        predicted(settings(counting, log, tmp_path / "out", k=2))
    with pytest.raises(ConfigError, match="holds other files already, such as log"):
        predicted(settings(counting, log, tmp_path))


def test_unusable_rows_are_listed_and_too_many_end_the_job(counting: Path, tmp_path: Path) -> None:
    rows = user_rows()
    rows[3] = rows[3] | {"time": "yesterday"}
    log = write_rows(tmp_path / "log.csv", rows)
    asked = settings(counting, log, tmp_path / "out")
    with pytest.raises(DataError, match="1 of 54 rows cannot be used"):
        predicted(asked)
    # the share decides no row, so that the same folder goes on with another
    allowing = asked.model_copy(update={"events": {"max_quarantine_share": 0.1}})
    assert predicted(allowing).quarantined == 1
    [listed] = pq.read_table(tmp_path / "out/quarantine").to_pylist()
    assert (listed["reason"], listed["value"]) == ("unreadable time", "yesterday")


def test_columns_may_have_other_names_but_not_those_that_were_learned(
    counting: Path, log: Path, tmp_path: Path
) -> None:
    text = log.read_text(encoding="utf-8")
    renamed = tmp_path / "renamed.csv"
    renamed.write_text(text.replace("user,time", "uid,time", 1), encoding="utf-8")
    predicted(settings(counting, log, tmp_path / "usual"))
    predicted(settings(counting, renamed, tmp_path / "other", events={"user": "uid"}))
    assert rows_of(tmp_path / "usual").equals(rows_of(tmp_path / "other"))
    with pytest.raises(ConfigError, match=r"events\.context_before.*call them the same"):
        predicted(settings(counting, log, tmp_path / "x", events={"context_before": ["place"]}))
    with pytest.raises(ConfigError, match=r"usr: unknown key .* did you mean 'user'"):
        predicted(settings(counting, log, tmp_path / "x", events={"usr": "uid"}))


def test_the_plan_counts_what_would_be_done(counting: Path, log: Path, tmp_path: Path) -> None:
    asked = settings(counting, log, tmp_path / "out", every=True)
    lines = "\n".join(described(plan_prediction(asked, opened_artifact(asked))))
    assert "54 rows, 0 of them" in lines and "6 in 8 parts" in lines and f"{54 + 6} of 5 behaviors" in lines
    assert not (tmp_path / "out").exists()


def test_a_time_that_the_log_could_not_have_is_refused(counting: Path, log: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="since: 'May' cannot be read as a time"):
        predicted(settings(counting, log, tmp_path / "out", since="May"))
    with pytest.raises(ValueError, match="every and since exclude each other"):
        settings(counting, log, tmp_path / "out", since="2024-03-01", every=True)


def test_histories_end_with_their_session_where_they_do_not_cross_sessions(
    counting: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "sessions"
    shutil.copytree(counting, folder)
    artifact = read_artifact(folder)
    events = artifact.events.model_copy(update={"session": "session", "histories_cross_sessions": False})
    write_description(folder, artifact.model_copy(update={"events": events}))
    rows = history(9, seed=3)
    sessions = ["a"] * 4 + ["b"] * 5
    kept = [row | {"session": session} for row, session in zip(rows, sessions, strict=True)]
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(row | {"user": "u"}) + "\n" for row in kept), encoding="utf-8")
    predicted(settings(folder, log, tmp_path / "out", every=True, k=len(NAMES)))
    model = BehaviorModel.load(folder)
    for row in rows_of(tmp_path / "out").to_pylist():
        position = row["position"]
        starts_session = position in (0, 4)
        assert ("no_history" in row["warnings"]) == starts_session
        following = kept[position] if position < len(kept) else None
        said = model.predict(
            [] if starts_session else kept[:position],
            {"room": following["room"]} if following else None,
            at=following["time"] if following else None,
            k=len(NAMES),
        )
        assert row["probabilities"] == pytest.approx([answer.probability for answer in said.answers])
        assert row["events_used"] == said.events_used


def test_a_log_and_its_predictions_may_lie_on_s3(
    counting: Path, log: Path, tmp_path: Path, s3_root: S3Location
) -> None:
    there = s3_root / "log.csv"
    storage.write_replacing(there, log.read_bytes())
    asked = settings(counting, there, s3_root / "out", every=True, partition_by="group")
    with pytest.raises(KeyboardInterrupt):
        predicted(asked, HereAndNow(4))
    predicted(asked)
    predicted(settings(counting, log, tmp_path / "out", every=True, partition_by="group"))
    assert rows_of(s3_root / "out").equals(rows_of(tmp_path / "out"))
    names = storage.list_files(s3_root / "out")
    assert "summary.json" in names and not [
        name for name in names if name.startswith(("progress", "scratch"))
    ]


def test_a_dry_run_prints_the_plan(
    counting: Path, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = [f"--model={counting}", f"--log={log}", "--to", str(tmp_path / "out"), "--every", "--dry-run"]
    assert main(typed) == 0 and f"to          {tmp_path / 'out'}" in capsys.readouterr().out
    assert main([*typed, "--events.usr=uid"]) == 2
    assert "did you mean 'user'" in capsys.readouterr().err


@pytest.mark.ray
def test_the_command_writes_with_two_replicas_the_rows_that_this_process_does(
    ray_cluster: None, counting: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, sizes = tmp_path / "log.csv", [*SIZES, 20]
    write_rows(log, user_rows(sizes))
    read = [f"--model={counting}", f"--log={log}", "--min_partitions=4"]
    assert main([*read, "--to", str(tmp_path / "replicas"), "--every", "--replicas=2"]) == 0
    predicted(settings(counting, log, tmp_path / "here", every=True, min_partitions=4))
    assert rows_of(tmp_path / "replicas").equals(rows_of(tmp_path / "here"))
    summaries = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("here", "replicas")]
    assert summaries[0] == summaries[1] and summaries[0]["predictions"] == sum(sizes) + len(sizes)
    assert "81 predictions for 7 users" in capsys.readouterr().out
    limits = ["--limits.unseen_share=0", "--limits.mix_distance=0", "--fail_on=tune_again"]
    assert check_main([*read, "--replicas=1", *limits]) == 1
    told = capsys.readouterr()
    assert told.out.count("tune again: ") == 1 and "and fail_on is tune_again" in told.err
