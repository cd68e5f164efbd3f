"""A base model from strangers: no code that lies in its folder is run."""

import shutil
import sys
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from behaviorlm.errors import ModelError
from behaviorlm.model.base_model import (
    load_model,
    load_model_config,
    load_tokenizer,
    model_without_weights,
    require_weights,
)
from behaviorlm.model.config import ModelConfig
from tests.behaviorlm.planted_code import assert_pickle_acts, plant_code, plant_pickle
from tests.behaviorlm.tiny_models import COMMON, tiny_model
from tests.behaviorlm.tokenizers_for_tests import small_tokenizer


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A tiny random Llama with its tokenizer, to change."""
    folder = tmp_path / "base"
    tiny_model(LlamaConfig(**COMMON | {"vocab_size": 330})).save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """Where planted code leaves its mark."""
    return tmp_path / "marker"


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pkl", "model.pt"])
def test_planted_pickle_alone_is_refused_and_not_run(
    base: Path, marker: Path, name: str, zipped: bool
) -> None:
    (base / "model.safetensors").unlink()
    plant_pickle(base / name, marker, zipped)
    config = ModelConfig(base=str(base))
    for use in (require_weights, load_model):
        with pytest.raises(ModelError, match=r"base holds no \*\.safetensors weights; convert"):
            use(config)
    load_tokenizer(config)
    assert_pickle_acts(base / name, marker)


@pytest.mark.parametrize("zipped", [True, False])
def test_planted_pickle_beside_weights_is_not_run(base: Path, marker: Path, zipped: bool) -> None:
    config = ModelConfig(base=str(base))
    expected = load_model(config).state_dict()
    for name in ("pytorch_model.bin", "model.bin", "adapter_model.bin", "tokenizer.pkl", "vocab.pkl"):
        plant_pickle(base / name, marker, zipped)
    found = load_model(config).state_dict()
    load_tokenizer(config)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert_pickle_acts(base / "pytorch_model.bin", marker)


def test_planted_pickle_beside_safetensors_of_another_name_is_refused_and_not_run(
    base: Path, marker: Path
) -> None:
    (base / "model.safetensors").rename(base / "other.safetensors")
    plant_pickle(base / "pytorch_model.bin", marker, zipped=True)
    with pytest.raises(ModelError, match="base: its weights cannot be loaded"):
        load_model(ModelConfig(base=str(base)))
    assert_pickle_acts(base / "pytorch_model.bin", marker)


def test_adapter_planted_in_the_folder_of_a_base_is_not_run(base: Path, marker: Path) -> None:
    """transformers looks for an adapter in the folder of a model, and for the base that it names."""
    other = shutil.copytree(base, base.with_name("other"))
    (other / "model.safetensors").unlink()
    plant_pickle(other / "pytorch_model.bin", marker, zipped=True)
    plant_pickle(base / "adapter_model.bin", marker, zipped=True)
    (base / "adapter_config.json").write_text(
        f'{{"peft_type": "LORA", "base_model_name_or_path": "{other}", "r": 2, "target_modules": ["q_proj"]}}'
    )
    with pytest.raises(ModelError, match="base: its weights cannot be loaded"):
        load_model(ModelConfig(base=str(base)))
    assert_pickle_acts(base / "adapter_model.bin", marker)


def test_code_of_a_model_is_refused_by_the_key_that_allows_it_and_not_run(
    base: Path, marker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant_code(base, marker, model_type="planted")
    config = ModelConfig(base=str(base))
    assert config.trust_remote_code is False
    for use in (load_model_config, load_model, load_tokenizer, model_without_weights):
        with pytest.raises(ModelError, match=r"(?s)base: its .*model\.trust_remote_code: true"):
            use(config)
    with pytest.raises(ModelError, match=r"model\.trust_remote_code: true"):
        load_model(config.model_copy(update={"random_init": True}))
    assert not marker.exists()
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    load_model(config.model_copy(update={"trust_remote_code": True}))
    assert marker.exists()  # it would have acted


def test_code_that_shadows_a_known_architecture_is_not_run(base: Path, marker: Path) -> None:
    plant_code(base, marker, model_type="llama")
    config = ModelConfig(base=str(base))
    assert type(load_model(config)) is LlamaForCausalLM
    load_tokenizer(config)
    assert not marker.exists()
