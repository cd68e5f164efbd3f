"""Whether a base model is what its recipe makes: the recipe is run again and everything is compared."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from behaviorlm.errors import ModelError
from behaviorlm.world.base_model import CONVERSATIONS, RECIPE_FILE, SENTENCES, make_base_model
from behaviorlm.world.errands import errands_world
from behaviorlm.world.generator import Generator
from behaviorlm.world.process import default_world

CURVE_TOLERANCE = 0.02
"""Nats a token by which a point of the curve may differ: float noise between processors, grown over all steps (our
choice). Two seeds differ by more at the start, and a changed recipe or text does."""
TEXT_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "config.json")


@dataclass(frozen=True)
class Repetition:
    """A base model against the same recipe run again.

    differing_files: those with other bytes, which should be none; curve: largest difference in nats a token; weights:
    largest absolute difference.
    """

    differing_files: tuple[str, ...]
    curve: float
    weights: float

    @property
    def is_same(self) -> bool:
        """Same files, and the same curve within `CURVE_TOLERANCE`; weights may drift."""
        return not self.differing_files and self.curve <= CURVE_TOLERANCE


def repeat(folder: Path) -> Repetition:
    """Run the recipe of a folder again, ten minutes for the default one.

    Raises ModelError (no recipe, or one that this version does not make).
    """
    recipe = _recipe(folder)
    worlds: dict[str, Generator] = {world.version: world for world in (default_world(), errands_world())}
    known = {"world": tuple(worlds), "sentences": (SENTENCES,), "conversations": (CONVERSATIONS,)}
    for key, allowed in known.items():
        if recipe.get(key) not in allowed:
            shown = " or ".join(map(str, allowed))
            raise ModelError(
                f"{folder / RECIPE_FILE}: {key} is {recipe.get(key)!r}, this version makes {shown}"
            )
    world = worlds[recipe["world"]]
    with tempfile.TemporaryDirectory() as scratch:
        again = make_base_model(
            Path(scratch) / "base",
            recipe["seed"],
            recipe["steps"],
            recipe["knowledge"],
            world,
            recipe["size"],
        )
        return compare(folder, again)


def compare(folder: Path, again: Path) -> Repetition:
    """Compare two folders. Differences are infinite where shapes, or the lengths of curves, are not the same."""
    differing = [name for name in TEXT_FILES if _bytes(folder / name) != _bytes(again / name)]
    curves = [[point["loss"] for point in _recipe(place)["curve"]] for place in (folder, again)]
    curve = float("inf")
    if len(curves[0]) == len(curves[1]):
        curve = max((abs(one - two) for one, two in zip(*curves, strict=True)), default=0.0)
    one, two = (load_file(place / "model.safetensors") for place in (folder, again))
    if {name: value.shape for name, value in one.items()} != {
        name: value.shape for name, value in two.items()
    }:
        return Repetition(tuple(differing), curve, float("inf"))
    weights = max(float(torch.max(torch.abs(one[name] - two[name]))) for name in one)
    return Repetition(tuple(differing), curve, weights)


def _recipe(folder: Path) -> dict[str, Any]:
    path = folder / RECIPE_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot read the recipe: {error}") from error
    if not isinstance(found, dict) or "curve" not in found:
        raise ModelError(f"{path}: this is no recipe of jobs.pretrain")
    return found


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None
