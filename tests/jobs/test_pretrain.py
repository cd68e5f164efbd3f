"""The job that makes base models: it shows progress, says what it made, and refuses what cannot be."""

import json
from pathlib import Path

import pytest

from jobs import pretrain


def test_it_makes_the_model_that_was_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "base"
    arguments = ["--folder", str(folder), "--size", "small", "--generator", "second", "--steps", "3"]
    assert pretrain.main([*arguments, "--knowledge", "0", "--seed", "4"]) == 0
    out = capsys.readouterr().out
    assert "for 3 steps" in out and out.splitlines()[-1] == f"wrote the base model to {folder}"
    recipe = json.loads((folder / "pretraining.json").read_text())
    assert (recipe["size"], recipe["knowledge"], recipe["seed"], recipe["steps"]) == ("small", 0.0, 4, 3)
    assert "errands" in recipe["world"]


def test_a_dial_out_of_range_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pretrain.main(["--folder", str(tmp_path / "base"), "--knowledge", "1.5"]) == 1
    assert "knowledge=1.5" in capsys.readouterr().err
    assert not (tmp_path / "base").exists()
