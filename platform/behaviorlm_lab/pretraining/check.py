"""Whether a base model is what its recipe makes: the recipe is run again and everything is compared."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from behaviorlm.errors import ModelError
from behaviorlm_lab.pretraining.base_model import make_base_model, padded, read_text
from behaviorlm_lab.pretraining.people import invented_people
from behaviorlm_lab.pretraining.recipe import CONVERSATIONS, RECIPE_FILE, SENTENCES, SIZES, read_recipe
from behaviorlm_lab.world.errands import errands_world
from behaviorlm_lab.world.generator import Generator
from behaviorlm_lab.world.process import default_world

TOLERANCE = 0.02
"""Nats a token by which a point of the curve, and the loss of the weights, may differ: float noise between processors,
grown over all steps (our choice). Two seeds differ by more at the start, and a changed recipe or text does."""
TEXT_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "config.json")
COMPARED_STEPS = 3
"""Steps whose chats, and as many other documents, the weights are compared on."""


@dataclass(frozen=True)
class Repetition:
    """A base model against the same recipe run again.

    differing_files: those with other bytes, which should be none; curve: largest difference in nats a token; loss: how
    far the losses of the two models' weights on the recipe's text differ, in nats a token; weights: largest difference.
    """

    differing_files: tuple[str, ...]
    curve: float
    loss: float
    weights: float

    @property
    def is_same(self) -> bool:
        """Same files, and curve and loss within `TOLERANCE`; single weights may drift further on another processor."""
        return not self.differing_files and max(self.curve, self.loss) <= TOLERANCE


def repeat(folder: Path) -> Repetition:
    """Run the recipe of a folder again, about five minutes for the default one.

    Raises ModelError (no recipe, or one that this version does not make).
    """
    recipe = read_recipe(folder)
    worlds: dict[str, Generator] = {world.version: world for world in (default_world(), errands_world())}
    known = {
        "world": tuple(worlds),
        "size": tuple(SIZES),
        "sentences": (SENTENCES,),
        "conversations": (CONVERSATIONS,),
    }
    for key, allowed in known.items():
        if recipe[key] not in allowed:
            shown = " or ".join(map(str, allowed))
            raise ModelError(f"{folder / RECIPE_FILE}: {key} is {recipe[key]!r}, this version makes {shown}")
    for key in ("seed", "steps"):
        if not isinstance(recipe[key], int) or recipe[key] < 0:
            raise ModelError(
                f"{folder / RECIPE_FILE}: {key} is {recipe[key]!r}, it must be a whole number from 0"
            )
    _weights(folder)  # what cannot be read is said before minutes have passed
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
        return compare(folder, again, world)


def compare(folder: Path, again: Path, world: Generator) -> Repetition:
    """Compare two folders, losses on the text of the second's recipe. Infinite where shapes are not the same."""
    differing = tuple(name for name in TEXT_FILES if _bytes(folder / name) != _bytes(again / name))
    curves = [[point["loss"] for point in read_recipe(place)["curve"]] for place in (folder, again)]
    curve = float("inf")
    if len(curves[0]) == len(curves[1]):
        curve = max((abs(one - two) for one, two in zip(*curves, strict=True)), default=0.0)
    one, two = (_weights(place) for place in (folder, again))
    if {name: value.shape for name, value in one.items()} != {
        name: value.shape for name, value in two.items()
    }:
        return Repetition(differing, curve, float("inf"), float("inf"))
    weights = max(float(torch.max(torch.abs(one[name] - two[name]))) for name in one)
    documents = _documents(again, world)
    return Repetition(differing, curve, abs(_loss(folder, documents) - _loss(again, documents)), weights)


def _documents(folder: Path, world: Generator) -> list[list[int]]:
    """Some of what the recipe of a folder lets a base read."""
    recipe = read_recipe(folder)
    people = invented_people(world, recipe["seed"], recipe["knowledge"])
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    text = read_text(tokenizer, people, recipe["seed"], COMPARED_STEPS)
    return [*(chat.tokens for chat in text.chats), *text.others[: len(text.chats)]]


def _loss(folder: Path, documents: list[list[int]]) -> float:
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    token_ids, labels = padded(documents)
    with torch.no_grad():
        return float(model(input_ids=token_ids, labels=labels).loss)


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    path = folder / "model.safetensors"
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: cannot read the weights: {error}") from error


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None
