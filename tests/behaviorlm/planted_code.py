"""Files that leave a mark when whoever reads them runs the code in them."""

import contextlib
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

CODE = """
from pathlib import Path

Path({marker!r}).touch()
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


class PlantedConfig(LlamaConfig):
    model_type = {model_type!r}


class PlantedModel(LlamaForCausalLM):
    config_class = PlantedConfig


class PlantedTokenizer(PreTrainedTokenizerFast):
    pass
"""


class _Touch:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


def plant_pickle(path: Path, marker: Path, zipped: bool) -> None:
    """Write a pickle that makes a folder `marker` when it is loaded; zipped as torch.save does, or as it is."""
    if not zipped:
        path.write_bytes(pickle.dumps({"weight": _Touch(marker)}))
        return
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"weight": _Touch(marker)}, protocol=2))
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/version", "3\n")


def plant_code(folder: Path, marker: Path, model_type: str) -> None:
    """Add a module to the folder of a Llama that touches `marker` when it is imported, and have the model name it."""
    (folder / "planted.py").write_text(CODE.format(marker=str(marker), model_type=model_type))
    maps = {
        "config.json": {
            "AutoConfig": "planted.PlantedConfig",
            "AutoModelForCausalLM": "planted.PlantedModel",
        },
        "tokenizer_config.json": {"AutoTokenizer": [None, "planted.PlantedTokenizer"]},
    }
    for name, auto_map in maps.items():
        changed = json.loads((folder / name).read_text()) | {"auto_map": auto_map}
        if name == "config.json":
            changed |= {"model_type": model_type}
        (folder / name).write_text(json.dumps(changed))


def assert_pickle_acts(path: Path, marker: Path) -> None:
    """That the planted pickle would have acted: torch, told to trust it, runs it."""
    assert not marker.exists()
    with contextlib.suppress(RuntimeError):  # after the pickle has acted, torch finds no weights in it
        torch.load(path, weights_only=False)
    assert marker.is_dir()
