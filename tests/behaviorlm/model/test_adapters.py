"""A tuned model from strangers: no code that lies in its folder is run."""

from pathlib import Path
from typing import Any

import pytest
import torch

from behaviorlm.errors import ModelError
from behaviorlm.model.adapters import (
    add_adapter,
    load_trained,
    merged_where_exact,
    save_trained,
)
from behaviorlm.model.base_model import load_model
from behaviorlm.model.config import LoraSettings, ModelConfig
from tests.behaviorlm.planted_code import assert_pickle_acts, plant_pickle
from tests.behaviorlm.tiny_models import CONFIGS, tiny_model, trainable_parameters


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama. Do not change it: it is shared."""
    folder = tmp_path_factory.mktemp("models") / "llama"
    tiny_model(CONFIGS["llama"]).save_pretrained(folder)
    return folder


@pytest.fixture(params=["lora", "full"])
def config(base: Path, request: pytest.FixtureRequest) -> ModelConfig:
    """Both ways to adapt the base."""
    return ModelConfig(base=str(base), adaptation=request.param)


@pytest.fixture
def tuned(config: ModelConfig, tmp_path: Path) -> Path:
    """The folder of a tuned model."""
    model = add_adapter(load_model(config), config, seed=1)
    with torch.no_grad():
        for parameter in trainable_parameters(model).values():
            parameter.add_(0.1)
    save_trained(model, tmp_path / "tuned")
    return tmp_path / "tuned"


NAMES = ["adapter_model.bin", "adapter_model.pkl", "pytorch_model.bin"]


@pytest.mark.parametrize("zipped", [True, False])
def test_planted_pickle_in_place_of_the_weights_is_refused_and_not_run(
    config: ModelConfig, tuned: Path, tmp_path: Path, zipped: bool
) -> None:
    marker = tmp_path / "marker"
    for weights in list(tuned.glob("*.safetensors")):
        weights.unlink()
    for name in NAMES:
        plant_pickle(tuned / name, marker, zipped)
    with pytest.raises(ModelError, match=rf"{tuned}.*safetensors"):
        load_trained(config, tuned)
    assert_pickle_acts(tuned / NAMES[0], marker)


@pytest.mark.parametrize("zipped", [True, False])
def test_planted_pickle_beside_the_weights_is_not_run(
    config: ModelConfig, tuned: Path, tmp_path: Path, zipped: bool
) -> None:
    marker = tmp_path / "marker"
    expected = load_trained(config, tuned).state_dict()
    for name in NAMES:
        plant_pickle(tuned / name, marker, zipped)
    found = load_trained(config, tuned).state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert_pickle_acts(tuned / NAMES[0], marker)


def test_pickle_under_the_name_of_the_weights_is_refused_and_not_run(
    config: ModelConfig, tuned: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    weights = next(tuned.glob("*.safetensors"))
    plant_pickle(weights, marker, zipped=True)
    with pytest.raises(ModelError, match=rf"{tuned}.*(cannot be read|is no whole file of weights)"):
        load_trained(config, tuned)
    weights.rename(tuned / "planted.bin")  # torch reads this name as the pickle that it is
    assert_pickle_acts(tuned / "planted.bin", marker)


def test_an_adapter_is_merged_in_float32_alone_and_changes_no_more_than_rounding(base: Path) -> None:
    def adapted(dtype: str, targets: list[str] | str) -> Any:
        lora = LoraSettings(target_modules=targets)
        config = ModelConfig(base=str(base), dtype=dtype, lora=lora)
        model = add_adapter(load_model(config), config, seed=1)
        with torch.no_grad():
            for parameter in trainable_parameters(model).values():
                parameter.add_(0.1)
        return model.eval().requires_grad_(False)

    ids = torch.arange(12)[None]
    model = adapted("float32", "all-linear")
    expected = model(input_ids=ids).logits
    merged: Any = merged_where_exact(model)
    assert not any("lora" in name for name, _ in merged.named_parameters())
    assert (merged(input_ids=ids).logits - expected).abs().max() < 1e-5
    kept: list[tuple[str, list[str] | str]] = [
        ("bfloat16", "all-linear"),
        ("float32", ["q_proj", "lm_head"]),
        ("float32", ["q_proj", "embed_tokens"]),
    ]
    for dtype, targets in kept:
        model = adapted(dtype, targets)
        assert merged_where_exact(model) is model
    plain = load_model(ModelConfig(base=str(base)))
    assert merged_where_exact(plain) is plain
