"""Weights that are missing, cut off or of another model are told by their headers, before anything is loaded."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig

from behaviorlm.errors import ModelError
from behaviorlm.model.base_model import check_weights, load_model
from behaviorlm.model.config import ModelConfig
from tests.behaviorlm.tiny_models import COMMON, tiny_model


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A tiny Llama in several files with their index."""
    folder = tmp_path / "base"
    tiny_model(LlamaConfig(**COMMON)).save_pretrained(folder, max_shard_size="30KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    return folder


def last(base: Path) -> Path:
    return sorted(base.glob("*.safetensors"))[-1]


def drop_a_tensor(base: Path) -> None:
    kept = dict(list(load_file(last(base)).items())[1:])
    save_file(kept, last(base), metadata={"format": "pt"})


def forget_a_tensor(base: Path) -> None:
    """From its file and from the index, as if the model never had it."""
    index = json.loads((base / "model.safetensors.index.json").read_text(encoding="utf-8"))
    name = next(name for name in index["weight_map"] if "mlp" in name)
    path = base / index["weight_map"].pop(name)
    kept = {key: value for key, value in load_file(path).items() if key != name}
    save_file(kept or {"spare": torch.zeros(1)}, path, metadata={"format": "pt"})
    (base / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def widen_the_model(base: Path) -> None:
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    (base / "config.json").write_text(json.dumps(config | {"vocab_size": 999}), encoding="utf-8")


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a missing file": (
        lambda base: last(base).unlink(),
        r"base lacks 1 of the \d+ files of its weights, such as model",
    ),
    "a file cut off": (
        lambda base: last(base).write_bytes(last(base).read_bytes()[:-9]),
        r"is no whole file of weights",
    ),
    "a damaged header": (lambda base: last(base).write_bytes(b"\xff" * 99), r"is no whole file of weights"),
    "an empty file": (lambda base: last(base).write_bytes(b""), r"is no whole file of weights"),
    "a pointer": (
        lambda base: last(base).write_text("version https://git-lfs.github.com/spec/v1\n"),
        r"is a pointer of Git LFS",
    ),
    "a damaged index": (
        lambda base: (base / "model.safetensors.index.json").write_text("{"),
        r"index\.json is not readable",
    ),
    "another model's file": (drop_a_tensor, r"lacks 1 tensors that model\.safetensors\.index\.json says it holds"),
    "an incomplete model": (forget_a_tensor, r"lack 1 of the model's parameters, such as model\.layers"),
    "another shape": (widen_the_model, r"its weights cannot be loaded"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILED)
def test_weights_that_would_stop_a_run_are_refused_before_it(base: Path, name: str) -> None:
    config = ModelConfig(base=str(base))
    check_weights(config)
    spoil, message = SPOILED[name]
    spoil(base)
    with pytest.raises(ModelError, match=message):
        check_weights(config)
    with pytest.raises(ModelError, match=message):
        load_model(config)


def test_tied_and_drawn_weights_pass(tmp_path: Path) -> None:
    tied = LlamaConfig(**COMMON | {"tie_word_embeddings": True})
    tiny_model(tied).save_pretrained(tmp_path / "tied")
    check_weights(ModelConfig(base=str(tmp_path / "tied")))
    tied.save_pretrained(tmp_path / "drawn")
    check_weights(ModelConfig(base=str(tmp_path / "drawn"), random_init=True))
