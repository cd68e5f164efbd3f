"""Feedback becomes a log that `events` reads: whole, bounded, and none of it lost without a word."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from behaviorlm.errors import ConfigError, StorageError
from behaviorlm.events.normalization import normalize
from behaviorlm.log_files.columns import check_columns
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.log_files.reading import read_table_batches
from behaviorlm.log_files.source_files import find_files
from behaviorlm.service.feedback import FeedbackLog, FolderFullError
from behaviorlm.service.settings import FeedbackSettings
from tests.behaviorlm.predictor.small_artifacts import EVENTS, history
from tests.behaviorlm.service.conftest import Serve
from tests.behaviorlm.service.test_answers import measured


def event(user: str = "ann", **changed: Any) -> dict[str, Any]:
    return {"user": user, **history(1)[0], **changed}


def read_back(folder: Path) -> list[dict[str, Any]]:
    """The events of the folder, read as a log is."""
    config = EventsConfig.model_validate({**EVENTS.model_dump(), "paths": [str(folder)]})
    found = []
    check_columns(config, find_files(config).files)
    for number, file in enumerate(find_files(config).files):
        for raw, quarantined in read_table_batches(file, config):
            events, unusable = normalize(raw, quarantined, number, file.path, config)
            assert not len(unusable)
            found += events.to_pylist()
    return found


def test_feedback_is_read_back_as_events(serve: Serve, tmp_path: Path) -> None:
    client = serve("counts", f"feedback.folder={tmp_path / 'kept'}")
    assert client.get("/v1/model").json()["takes_feedback"]
    sent = [event(), event("bob", behavior="a new one\nof two lines \u202e é"), event("ann", room=None)]
    del sent[2]["room"]
    answer = client.post("/v1/feedback", json={"events": sent})
    assert answer.json() == {"stored": 3, "warnings": []}
    other = client.post("/v1/feedback", json={"events": [event(team="a"), event(7)]}).json()  # type: ignore[arg-type]
    assert other["stored"] == 2 and "'team'" in other["warnings"][0]
    found = read_back(tmp_path / "kept")
    assert [each["user"] for each in found] == ["ann", "bob", "ann", "ann", "7"]
    assert found[1]["behavior"] == sent[1]["behavior"]
    assert [each["before.room"] for each in found][1:3] == [sent[1]["room"], None]
    assert found[0]["before.weekday"] == "Fri"
    [path] = (tmp_path / "kept").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert measured(client, "behaviorlm_feedback_events_total") == 5


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"user": ""}, "event 1: 'user' is missing or empty"),
        ({"behavior": None}, "event 1: 'behavior' is missing or empty"),
        ({"time": "yesterday"}, "event 1 cannot be used: unreadable time"),
        ({"behavior": "x" * 121}, "event 1 cannot be used: over-long behavior"),
        ({"behavior": "\u200b"}, "event 1 cannot be used: empty behavior"),
        ({"\ud800": 1}, "half of a character"),
        ({"user": "\ud800"}, "half of a character"),
        ({"team": ["a"]}, "text, a number"),
    ],
)
def test_what_preparation_would_put_aside_is_refused_and_nothing_of_it_kept(
    serve: Serve, tmp_path: Path, wrong: dict[str, Any], told: str
) -> None:
    client = serve("counts", f"feedback.folder={tmp_path}")
    text = json.dumps({"events": [event(), event(**wrong)]})
    refused = client.post("/v1/feedback", content=text, headers={"Content-Type": "application/json"})
    assert refused.status_code == 422
    assert told in refused.json()["error"]
    assert not list(tmp_path.iterdir())


def test_it_is_off_unless_a_folder_is_given_and_bounded_where_it_is(serve: Serve, tmp_path: Path) -> None:
    refused = serve().post("/v1/feedback", json={"events": [event()]})
    assert refused.status_code == 404 and refused.json()["key"] == "feedback.folder"
    line = len(json.dumps(event())) + 1
    client = serve(
        "counts", f"feedback.folder={tmp_path}", f"feedback.folder_bytes={2 * line}", "feedback.events=3"
    )
    many = client.post("/v1/feedback", json={"events": [event()] * 4})
    assert many.status_code == 422 and many.json()["key"] == "feedback.events"
    too_much = client.post("/v1/feedback", json={"events": [event()] * 3})
    assert too_much.status_code == 507 and too_much.json()["key"] == "feedback.folder_bytes"
    assert client.post("/v1/feedback", json={"events": [event()] * 2}).status_code == 200
    [kept] = tmp_path.iterdir()
    kept.rename(tmp_path / "moved")  # away: there is room again, in a file of another name
    assert client.post("/v1/feedback", json={"events": [event()] * 2}).status_code == 200
    [another] = tmp_path.glob("feedback-*")
    assert another.name != kept.name


def test_files_are_closed_at_their_size_and_hold_whole_lines(tmp_path: Path) -> None:
    line = len(json.dumps(event())) + 1
    log = FeedbackLog(FeedbackSettings(folder=str(tmp_path), file_bytes=2 * line + 1))
    for number in range(5):
        log.append([event(f"us{number}"[:3])])
    sizes = [path.stat().st_size for path in sorted(tmp_path.iterdir())]
    assert sizes == [2 * line, 2 * line, line]
    assert len(read_back(tmp_path)) == 5
    another = FeedbackLog(FeedbackSettings(folder=str(tmp_path), folder_bytes=6 * line))
    another.append([event()])  # after a restart, to a file of its own
    with pytest.raises(FolderFullError):
        another.append([event()])
    assert len(list(tmp_path.iterdir())) == 4


def test_a_disk_that_fills_takes_nothing_of_a_request(full_disk: Path) -> None:
    if not full_disk.is_mount():
        pytest.skip("no small file system may be mounted here")
    log = FeedbackLog(FeedbackSettings(folder=str(full_disk / "kept")))
    log.append([event()])
    with pytest.raises(StorageError, match="nothing was kept"):
        log.append([event("x" * 400_000)])
    assert len(read_back(full_disk / "kept")) == 1


def test_a_folder_that_cannot_be_made_is_refused_before_it_serves(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"feedback\.folder: .* cannot be made"):
        serve("counts", f"feedback.folder={tmp_path / 'file' / 'kept'}")
    assert os.listdir(tmp_path) == ["file"]
