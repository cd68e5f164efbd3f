"""The job that makes base models: it shows progress, says what it made, and refuses what cannot be."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from behaviorlm_lab.pretraining.base_model import make_base_model
from behaviorlm_lab.pretraining.check import TOLERANCE, compare
from behaviorlm_lab.pretraining.recipe import ASSET, CONVERSATIONS, SENTENCES
from behaviorlm_lab.world.process import default_world
from jobs import pretrain
from tests.platform.lab.little_text import little_text


@pytest.fixture(name="little_text")
def _little_text() -> Iterator[None]:
    with little_text():
        yield


@pytest.mark.usefixtures("little_text")
def test_it_makes_the_model_that_was_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "base"
    arguments = ["--folder", str(folder), "--size", "small", "--generator", "second", "--steps", "3"]
    assert pretrain.main([*arguments, "--knowledge", "0", "--seed", "4"]) == 0
    out = capsys.readouterr().out
    assert "for 3 steps" in out and "0.00 of the effects named" in out
    assert out.splitlines()[-1] == f"wrote the base model to {folder}"
    recipe = json.loads((folder / "pretraining.json").read_text())
    assert (recipe["size"], recipe["knowledge"], recipe["seed"], recipe["steps"]) == ("small", 0.0, 4, 3)
    assert "errands" in recipe["world"]


def test_a_dial_out_of_range_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pretrain.main(["--folder", str(tmp_path / "base"), "--knowledge", "1.5"]) == 1
    assert "knowledge=1.5" in capsys.readouterr().err
    assert not (tmp_path / "base").exists()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small base whose curve has two points. Do not change it: it is shared."""
    with little_text():
        return make_base_model(tmp_path_factory.mktemp("small") / "base", steps=3, size="small")


@pytest.mark.usefixtures("little_text")
def test_a_folder_is_checked_against_its_recipe(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(small, tmp_path / "base"))
    assert pretrain.main(["--check", str(folder)]) == 0
    out = capsys.readouterr().out
    assert f"{folder} is what its recipe makes" in out and "curve: 0.00000" in out

    recipe = json.loads((folder / "pretraining.json").read_text())
    (folder / "pretraining.json").write_text(json.dumps(recipe | {"seed": 1}))
    assert pretrain.main(["--check", str(folder)]) == 1
    out = capsys.readouterr().out
    assert f"{folder} is NOT what its recipe makes" in out and "tokenizer.json" in out


@pytest.mark.usefixtures("little_text")
def test_another_curve_or_other_weights_are_not_what_the_recipe_makes(small: Path, tmp_path: Path) -> None:
    again, folder = small, Path(shutil.copytree(small, tmp_path / "base"))
    recipe = json.loads((folder / "pretraining.json").read_text())
    curve = [dict(point) for point in recipe["curve"]]
    curve[1]["loss"] += 0.03
    (folder / "pretraining.json").write_text(json.dumps(recipe | {"curve": curve}))
    found = compare(folder, again, default_world())
    assert (found.loss, found.weights) == (0.0, 0.0) and found.curve == pytest.approx(0.03)
    assert not found.is_same

    (folder / "pretraining.json").write_text(json.dumps(recipe))
    assert compare(folder, again, default_world()).is_same
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] *= 2
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    found = compare(folder, again, default_world())
    assert found.curve == 0.0 and found.loss > TOLERANCE and not found.is_same
    save_file({"model.norm.weight": torch.ones(3)}, folder / "model.safetensors", {"format": "pt"})
    assert compare(folder, again, default_world()).weights == float("inf")


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (None, "cannot read the recipe"),
        ({"world": "main-2"}, "it lacks size, seed"),
        ({"world": "main-1"}, "world is 'main-1', this version makes main-2 or"),
        ({"steps": "many"}, "steps is 'many', it must be a whole number"),
        ({"size": "huge"}, "size is 'huge', this version makes small or base or large"),
    ],
)
def test_a_folder_without_a_recipe_of_this_version_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], recipe: dict[str, str] | None, message: str
) -> None:
    if recipe is not None:
        made = {"world": "main-2", "size": "base", "seed": 0, "steps": 3, "knowledge": 1.0, "curve": []}
        made |= {"sentences": SENTENCES, "conversations": CONVERSATIONS}
        (tmp_path / "pretraining.json").write_text(
            json.dumps(recipe if message.startswith("it lacks") else made | recipe)
        )
    assert pretrain.main(["--check", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert message in error and str(tmp_path / "pretraining.json") in error


@pytest.mark.slow
@pytest.mark.timeout(3600)  # five minutes on an idle core
def test_the_shipped_base_is_what_its_recipe_makes(capsys: pytest.CaptureFixture[str]) -> None:
    assert pretrain.main(["--check", str(ASSET)]) == 0, capsys.readouterr().out
