"""The world's job: a log in parts through Ray Data with the bytes that one process would write, and its text."""

import gzip
import json
from pathlib import Path

import pytest

from behaviorlm.scoring.cloze_questions import read_cloze
from behaviorlm_lab.world import log
from behaviorlm_lab.world.log import write_part
from behaviorlm_lab.world.opaque import OpaqueWorld
from behaviorlm_lab.world.process import default_world
from jobs import world


def test_the_job_writes_parts_and_text_and_the_text_keeps_the_names(
    ray_cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    users = log.USERS_PER_PART + 5
    arguments = ["--folder", str(tmp_path), "--users", str(users), "--seed", "3", "--events", "2", "3"]
    assert world.main([*arguments, "--opaque", "--sentences", "200"]) == 0
    assert "synthetic events" in capsys.readouterr().out
    opaque = OpaqueWorld(default_world(), 3)
    for part in range(2):
        write_part(tmp_path / "alone", part, users, 3, (2, 3), opaque)
    names = ["part-00000.jsonl.gz", "part-00001.jsonl.gz"]
    assert sorted(path.name for path in (tmp_path / "log").iterdir()) == names
    for name in names:
        assert (tmp_path / "log" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    text = (tmp_path / "knowledge.txt").read_text()
    assert len(text.splitlines()) == 200 and "read messages" in text
    assert not [code for code in opaque.names if code in text]
    for kind in ("everyday", "school"):
        assert gzip.decompress((tmp_path / f"{kind}.jsonl.gz").read_bytes()).count(b"\n") == 1000
    assert {question.kind for question in read_cloze(tmp_path / "cloze.jsonl")} > {"cause", "slot"}


def test_a_smaller_log_leaves_no_part_of_a_larger_one(tmp_path: Path) -> None:
    arguments = ["--folder", str(tmp_path), "--sentences", "5", "--conversations", "2", "--events", "1", "2"]
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "part-00001.jsonl.gz").write_bytes(b"of a larger log")
    assert world.main([*arguments, "--users", "7"]) == 0
    assert [path.name for path in (tmp_path / "log").iterdir()] == ["part-00000.jsonl.gz"]
    rows = gzip.decompress((tmp_path / "log" / "part-00000.jsonl.gz").read_bytes()).decode().splitlines()
    assert len({json.loads(row)["user"] for row in rows}) == 7


def test_it_describes_both_worlds_without_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for generator in ("main", "second"):
        assert world.main(["--describe", "--users", "20", "--generator", generator]) == 0
        assert "argmax p*" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_bad_arguments_end_with_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.main(["--folder", str(tmp_path), "--users", "0"]) == 1
    assert world.main(["--folder", str(tmp_path), "--knowledge", "2"]) == 1
    assert "users=0" in (error := capsys.readouterr().err) and "knowledge=2" in error
    assert not (tmp_path / "log").exists()
