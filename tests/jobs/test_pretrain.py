"""The job that makes base models: it shows progress, says what it made, and refuses what cannot be."""

import json
from pathlib import Path

import pytest

from behaviorlm.world.base_model import ASSET
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


def test_a_folder_is_checked_against_its_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "base"
    pretrain.main(["--folder", str(folder), "--size", "small", "--steps", "25"])
    assert pretrain.main(["--check", str(folder)]) == 0
    out = capsys.readouterr().out
    assert f"{folder} is what its recipe makes" in out and "curve: 0.00000" in out

    recipe = json.loads((folder / "pretraining.json").read_text())
    other_seed = recipe | {"seed": 1}
    (folder / "pretraining.json").write_text(json.dumps(other_seed))
    assert pretrain.main(["--check", str(folder)]) == 1
    out = capsys.readouterr().out
    assert "NOT what its recipe makes" in out and "tokenizer.json" in out

    (folder / "pretraining.json").write_text(json.dumps(recipe | {"world": "main-1"}))
    assert pretrain.main(["--check", str(folder)]) == 1
    assert "world is 'main-1'" in capsys.readouterr().err
    assert pretrain.main(["--check", str(tmp_path)]) == 1
    assert "pretraining.json" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(3600)  # ten minutes on an idle core
def test_the_shipped_base_is_what_its_recipe_makes(capsys: pytest.CaptureFixture[str]) -> None:
    assert pretrain.main(["--check", str(ASSET)]) == 0, capsys.readouterr().out
