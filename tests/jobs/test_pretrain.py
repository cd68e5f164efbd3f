"""The job that makes base models: it shows progress, says what it made, and refuses what cannot be."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

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
    curve = [dict(point) for point in recipe["curve"]]
    curve[1]["loss"] += 0.03
    for changed, message in (({"seed": 1}, "tokenizer.json"), ({"curve": curve}, "curve: 0.03000")):
        (folder / "pretraining.json").write_text(json.dumps(recipe | changed))
        assert pretrain.main(["--check", str(folder)]) == 1
        out = capsys.readouterr().out
        assert "NOT what its recipe makes" in out and message in out

    (folder / "pretraining.json").write_text(json.dumps(recipe))
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] *= 2
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert pretrain.main(["--check", str(folder)]) == 1
    out = capsys.readouterr().out
    assert "curve: 0.00000" in out and "NOT what its recipe makes" in out


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (None, "cannot read the recipe"),
        ({"world": "main-2"}, "it lacks size, seed"),
        ({"world": "main-1"}, "world is 'main-1', this version makes main-2 or"),
        ({"size": "huge"}, "size is 'huge', this version makes small or base or large"),
    ],
)
def test_a_folder_without_a_recipe_of_this_version_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], recipe: dict[str, str] | None, message: str
) -> None:
    if recipe is not None:
        shipped = (
            {} if message.startswith("it lacks") else json.loads((ASSET / "pretraining.json").read_text())
        )
        (tmp_path / "pretraining.json").write_text(json.dumps(shipped | recipe))
    assert pretrain.main(["--check", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert message in error and str(tmp_path / "pretraining.json") in error


@pytest.mark.slow
@pytest.mark.timeout(3600)  # ten minutes on an idle core
def test_the_shipped_base_is_what_its_recipe_makes(capsys: pytest.CaptureFixture[str]) -> None:
    assert pretrain.main(["--check", str(ASSET)]) == 0, capsys.readouterr().out
