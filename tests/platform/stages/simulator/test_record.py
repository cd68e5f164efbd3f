"""A long play that was cut short goes on where it was, and only with the same code."""

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.platform.stages.simulator import record
from tests.platform.stages.simulator.record import Played, Record


def test_a_block_is_there_after_a_new_start_and_half_a_line_is_not(tmp_path: Path) -> None:
    path = tmp_path / "worlds.jsonl"
    block = Played(0, 2, 600, 60, 0.5, Counter({"rot": 1}), ["seed 1: wrong"])
    Record(path).add(block)
    with path.open("a") as file:
        file.write(json.dumps(vars(block))[:20])
    again = Record(path)
    assert again.played == {(0, 2): block}
    again.add(Played(2, 2))
    assert set(Record(path).played) == {(0, 2), (2, 2)}


def test_worlds_of_other_code_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "worlds.jsonl"
    Record(path).add(Played(0, 500))
    monkeypatch.setattr(record, "code_digest", lambda: "other")
    other = Record(path)
    assert not other.played and other.others == 500


def test_the_digest_tells_a_changed_file_of_the_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = record.code_digest()
    (tmp_path / "world.py").write_text("")
    monkeypatch.setattr(record, "HERE", tmp_path)
    assert record.code_digest() != before == _anew(monkeypatch)


def _anew(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.undo()
    return record.code_digest()
