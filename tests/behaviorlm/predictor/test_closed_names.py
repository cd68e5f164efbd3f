"""A predictor whose names are normalized over the trie: what it answers with all names, some of them, and new ones."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from behaviorlm.predictor.artifact import DESCRIPTION
from behaviorlm.predictor.behavior_model import BehaviorModel
from behaviorlm.predictor.requests import Request
from tests.behaviorlm.predictor.small_artifacts import NAMES, history, write_artifact

AT = "2024-03-03T10:00:00Z"
ROOM = {"room": "hall"}


@pytest.fixture(scope="module")
def folder(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("closed") / "model"
    write_artifact(folder, tiny_base, normalization="trie")
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> BehaviorModel:
    return BehaviorModel.load(folder, device="cpu")


def by_name(model: BehaviorModel, **choices: Any) -> dict[str, float]:
    found = model.predict(history(5), ROOM, at=AT, k=99, **choices)
    return {answer.behavior: answer.probability for answer in found.answers}


def brute_force(model: BehaviorModel, names: list[str]) -> dict[str, float]:
    """Probabilities from a plain pass for every beginning that names share."""
    language = model.parts.language_model
    assert language is not None
    read = model.read([Request(history(5), ROOM, AT)])
    (shown,) = language.prompts(read, tuple(names))
    prompt = [*language.tokens.instruction_ids, *np.concatenate([*shown.lines, shown.question]).tolist()]
    labels = [
        [*ids.tolist(), *language.tokens.terminator_ids]
        for ids in language.encoder.encode_names(tuple(names))
    ]
    found = {}
    for name, label in zip(names, labels, strict=True):
        total = 0.0
        for at in range(len(label)):
            following = sorted({o[at] for o in labels if len(o) > at and o[:at] == label[:at]})
            with torch.inference_mode():
                logits = language.model(torch.tensor([prompt + label[:at]])).logits[0, -1].double()[following]
            total += float((logits / model.artifact.temperature).log_softmax(-1)[following.index(label[at])])
        found[name] = float(np.exp(total))
    return found


def test_the_whole_vocabulary_has_probability_one(model: BehaviorModel) -> None:
    found = by_name(model)
    assert found == pytest.approx(brute_force(model, list(NAMES)), abs=1e-6)
    assert sum(found.values()) == pytest.approx(1, abs=1e-6)


def test_denied_names_take_their_share_with_them_and_change_nothing_among_the_others(
    model: BehaviorModel,
) -> None:
    whole = by_name(model)
    denied = sorted(whole, key=lambda name: -whole[name])[:2]
    left = {name: value for name, value in whole.items() if name not in denied}
    expected = {name: value / sum(left.values()) for name, value in left.items()}
    assert by_name(model, deny=denied) == pytest.approx(expected, abs=1e-6)
    assert by_name(model, allow=list(left)) == pytest.approx(expected, abs=1e-6)


def test_new_names_part_from_the_vocabulary_s_own(model: BehaviorModel) -> None:
    new = ["sauna", f"{NAMES[0]} twice"]
    expected = brute_force(model, [*NAMES, *new])
    assert by_name(model, new_names=new) == pytest.approx(expected, abs=1e-6)
    among = [NAMES[1], *new]
    whole = sum(expected[name] for name in among)
    found = by_name(model, allow=among, new_names=new)
    assert found == pytest.approx({name: expected[name] / whole for name in among}, abs=1e-6)


def test_a_folder_answers_at_its_temperature(folder: Path) -> None:
    stored = json.loads((folder / DESCRIPTION).read_text())
    at_one = BehaviorModel.load(folder, device="cpu")
    softer = folder.parent / "softer"
    shutil.copytree(folder, softer)
    (softer / DESCRIPTION).write_text(json.dumps(stored | {"temperature": 3.0}))
    model = BehaviorModel.load(softer, device="cpu")
    found = by_name(model)
    assert found == pytest.approx(brute_force(model, list(NAMES)), abs=1e-6)
    assert max(abs(found[name] - value) for name, value in by_name(at_one).items()) > 0.01


def test_a_folder_that_says_nothing_of_it_is_normalized_in_full(folder: Path) -> None:
    stored = json.loads((folder / DESCRIPTION).read_text())
    assert stored["normalization"] == "trie"
    del stored["normalization"]
    older = folder.parent / "older"
    shutil.copytree(folder, older)
    (older / DESCRIPTION).write_text(json.dumps(stored))
    assert BehaviorModel.load(older, device="cpu").artifact.normalization == "full"
