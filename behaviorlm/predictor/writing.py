"""Writing an artifact's folder: weights, tokenizer, counts, description. No path of this machine gets in."""

import json
import shutil
from pathlib import Path
from typing import Any

from behaviorlm.model.adapters import AdaptedModel, export_merged, save_trained
from behaviorlm.model.base_model import (
    base_folder,
    dropout_overrides,
    load_tokenizer,
    model_fingerprint,
)
from behaviorlm.model.config import ModelConfig
from behaviorlm.model.model_files import model_files
from behaviorlm.predictor.artifact import DESCRIPTION, OWN_BASE, Artifact, Weights, describe_files

_TOKENIZER_CONFIG = "tokenizer_config.json"
_ADAPTER_CONFIG = "adapter_config.json"
_PATHS = ("name_or_path", "_name_or_path")


def write_weights(
    folder: Path, config: ModelConfig, model: AdaptedModel, *, is_tuned: bool, merged: bool
) -> Weights:
    """Write a model and its tokenizer. config: of the base, whose folder may lie anywhere. is_tuned: False: the base.

    A base that came from the hub is referred to; one from a folder is copied, unless its weights are merged. Raises
    ModelError where merging changes what the model says.
    """
    tokenizer = load_tokenizer(config)
    if merged or (is_tuned and config.adaptation == "full"):
        export_merged(model, tokenizer, folder)
        # the written config.json has all overrides but dropout, which must be asked for again
        kept = {
            "base": ".",
            "revision": None,
            "random_init": False,
            "config_overrides": dropout_overrides(config),
        }
        _clean(folder)
        return Weights(
            form="merged", base=config.model_copy(update=kept), base_fingerprint=model_fingerprint(config)
        )
    if is_tuned:
        save_trained(model, folder)
    tokenizer.save_pretrained(folder)
    if Path(config.base).expanduser().exists():
        (folder / OWN_BASE).mkdir()
        for path in model_files(base_folder(config)):
            shutil.copyfile(path, folder / OWN_BASE / path.name)
        fingerprint = model_fingerprint(config.model_copy(update={"base": str(folder / OWN_BASE)}))
        config = config.model_copy(update={"base": OWN_BASE, "revision": None})
    else:
        fingerprint = model_fingerprint(config)
        if is_tuned:
            _set_json(
                folder / _ADAPTER_CONFIG,
                {"base_model_name_or_path": config.base, "revision": config.revision},
            )
    _clean(folder)
    return Weights(form="adapter" if is_tuned else "base", base=config, base_fingerprint=fingerprint)


def write_description(folder: Path, artifact: Artifact) -> Artifact:
    """Write behaviorlm.json, with every other file that is there; the card may come later. Returns what it holds."""
    described = artifact.model_copy(update={"files": describe_files(folder)})
    (folder / DESCRIPTION).write_text(described.to_json(), encoding="utf-8")
    return described


def _clean(folder: Path) -> None:
    """Without the paths that libraries write of where something was loaded from."""
    for path in (folder / _TOKENIZER_CONFIG, folder / "config.json"):
        if path.is_file():
            stored = json.loads(path.read_text(encoding="utf-8"))
            kept = {key: value for key, value in stored.items() if key not in _PATHS}
            if kept != stored:
                path.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _set_json(path: Path, values: dict[str, Any]) -> None:
    stored = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(stored | values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
