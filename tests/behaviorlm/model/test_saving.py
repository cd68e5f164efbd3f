"""Adapters that start as the identity; saving, loading what was saved, and export."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    PreTrainedTokenizerFast,
)

from behaviorlm.errors import ModelError
from behaviorlm.model.adapters import (
    add_adapter,
    check_adapter,
    export_merged,
    load_trained,
    save_trained,
)
from behaviorlm.model.base_model import (
    load_model,
    load_tokenizer,
)
from behaviorlm.model.config import ModelConfig
from tests.behaviorlm.model.small_llama import logits
from tests.behaviorlm.tiny_models import trainable_parameters


def tuned(config: ModelConfig) -> Any:
    """A model with its trainable parameters moved, as after tuning."""
    model = add_adapter(load_model(config), config, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in trainable_parameters(model).values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def configs(base: Path) -> list[ModelConfig]:
    return [ModelConfig(base=str(base)), ModelConfig(base=str(base), adaptation="full")]


def test_new_adapter_changes_nothing_yet_and_follows_its_seed(base: Path) -> None:
    config = ModelConfig(base=str(base))
    expected = logits(load_model(config))
    models = [add_adapter(load_model(config), config, seed) for seed in (3, 3, 4)]
    assert torch.equal(logits(models[0]), expected)
    first, same, other = (torch.cat([p.flatten() for p in trainable_parameters(m).values()]) for m in models)
    assert torch.equal(first, same) and not torch.equal(first, other)
    names = trainable_parameters(models[0])
    assert names and all(".lora_A." in name or ".lora_B." in name for name in names)


def test_full_adaptation_trains_every_parameter(base: Path) -> None:
    config = ModelConfig(base=str(base), adaptation="full")
    model = add_adapter(load_model(config), config, 0)
    assert len(trainable_parameters(model)) == len(list(model.parameters()))


def test_target_modules_that_fit_nothing_are_refused(base: Path) -> None:
    config = ModelConfig.model_validate({"base": str(base), "lora": {"target_modules": ["query"]}})
    with pytest.raises(ModelError, match=r"model\.lora\.target_modules: .*query"):
        add_adapter(load_model(config), config, 0)
    with pytest.raises(
        ModelError, match=r"query.*linear modules are down_proj, .*, v_proj; name some of them"
    ):
        check_adapter(config)
    check_adapter(ModelConfig.model_validate({"base": str(base), "lora": {"target_modules": ["q_proj"]}}))


@pytest.mark.parametrize("index", [0, 1])
def test_trained_model_loads_equal_and_ready_to_train_on(base: Path, tmp_path: Path, index: int) -> None:
    config = configs(base)[index]
    model = tuned(config)
    save_trained(model, tmp_path / "saved")
    scoring = load_trained(config, tmp_path / "saved")
    training = load_trained(config, tmp_path / "saved", trainable=True)
    assert torch.equal(logits(scoring), logits(model)) and not scoring.training
    assert not trainable_parameters(scoring)
    assert {name: tuple(p.shape) for name, p in trainable_parameters(training).items()} == {
        name: tuple(p.shape) for name, p in trainable_parameters(model).items()
    }


@pytest.mark.parametrize("index", [0, 1])
def test_saved_files_are_safetensors_and_json_without_paths(base: Path, tmp_path: Path, index: int) -> None:
    save_trained(tuned(configs(base)[index]), tmp_path / "saved")
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    assert {Path(name).suffix for name in names} == {".safetensors", ".json"}
    for path in (tmp_path / "saved").glob("*.json"):
        assert str(base.parent) not in path.read_text()


def test_same_adapter_has_the_same_bytes_wherever_its_base_lies(
    base: Path, copied: Path, tmp_path: Path
) -> None:
    save_trained(tuned(ModelConfig(base=str(base))), tmp_path / "one")
    save_trained(tuned(ModelConfig(base=str(copied))), tmp_path / "two")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_peft_itself_reads_the_saved_adapter(base: Path, tmp_path: Path) -> None:
    model = tuned(ModelConfig(base=str(base)))
    save_trained(model, tmp_path)
    read = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path)
    assert torch.equal(logits(read.eval()), logits(model))


def test_adapter_of_another_base_is_refused_by_the_weights_that_differ(base: Path, tmp_path: Path) -> None:
    config = ModelConfig(base=str(base))
    save_trained(tuned(config), tmp_path)
    with pytest.raises(ModelError, match=r"belongs to another base model.*layers\.1\."):
        load_trained(config.model_copy(update={"config_overrides": {"num_hidden_layers": 1}}), tmp_path)


def test_folder_without_or_with_damaged_trained_weights_is_refused(base: Path, tmp_path: Path) -> None:
    config = ModelConfig(base=str(base))
    with pytest.raises(ModelError, match="holds no trained model"):
        load_trained(config, tmp_path)
    save_trained(tuned(config), tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(ModelError, match="cannot be read"):
        load_trained(config, tmp_path)
    save_trained(tuned(config), tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "surprise": 1}))
    with pytest.raises(ModelError, match="surprise"):
        load_trained(config, tmp_path)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_merged_export_answers_like_the_adapter_model_and_leaves_it_alone(
    base: Path, tmp_path: Path, chat_tokenizer: PreTrainedTokenizerFast, dtype: str
) -> None:
    model = tuned(ModelConfig.model_validate({"base": str(base), "dtype": dtype}))
    expected = logits(model)
    difference = export_merged(model, chat_tokenizer, tmp_path)
    exported = AutoModelForCausalLM.from_pretrained(tmp_path)
    base_model = load_model(ModelConfig.model_validate({"base": str(base), "dtype": dtype}))
    moved = (logits(base_model) - expected).abs().max()
    assert (logits(exported) - expected).abs().max() < moved / (1000 if dtype == "float32" else 10)
    assert difference < 5e-2 and torch.equal(logits(model), expected) and isinstance(model, PeftModel)
    exported_config = ModelConfig(base=str(tmp_path))
    assert load_tokenizer(exported_config).chat_template == chat_tokenizer.chat_template
    assert not list(tmp_path.glob("adapter*"))


def test_export_that_would_answer_differently_is_refused(
    base: Path, tmp_path: Path, chat_tokenizer: PreTrainedTokenizerFast
) -> None:
    model = tuned(ModelConfig(base=str(base)))

    def shifted(module: torch.nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        return output + 0.1

    # Something that the weights do not hold, as a wrapped or patched layer would be.
    model.get_base_model().lm_head.register_forward_hook(shifted)
    with pytest.raises(ModelError, match="differs from the tuned one"):
        export_merged(model, chat_tokenizer, tmp_path)
