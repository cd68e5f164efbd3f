"""A linear layer and its adapter as one operation: peft's own numbers and gradients, where it is made for them."""

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from behaviorlm.model.low_rank import LowRankLinear, in_one_operation
from tests.behaviorlm.tiny_models import CONFIGS, VOCABULARY, tiny_model


def adapted(dtype: torch.dtype, **changes: Any) -> Any:
    """A tiny model with an adapter that changes its numbers much."""
    torch.manual_seed(0)
    base: Any = tiny_model(CONFIGS["qwen2"])
    model = base.to(dtype).requires_grad_(False)
    lora = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False, **changes)
    found: Any = get_peft_model(model, lora, autocast_adapter_dtype=False)
    return found


def outputs(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of random tokens, and gradients of all that is trained."""
    ids = torch.randint(VOCABULARY, (3, 11), generator=torch.Generator().manual_seed(1))
    logits = model(input_ids=ids, use_cache=False).logits
    logits.square().mean().backward()
    gradients = [p.grad.flatten() for p in model.parameters() if p.requires_grad]
    return logits.detach(), torch.cat(gradients)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.bfloat16, 0.1)])
def test_numbers_and_gradients_are_those_of_peft(dtype: torch.dtype, tolerance: float) -> None:
    model = adapted(dtype)
    one = copy.deepcopy(model)
    in_one_operation(one)
    assert sum(type(module) is LowRankLinear for module in one.modules()) == 14  # 7 in each of 2 layers
    for right, found in zip(outputs(model), outputs(one), strict=True):
        assert right.norm() > 0
        assert (found - right).norm() <= tolerance * right.norm()


def test_an_adapter_in_float32_beside_bfloat16_weights_is_rounded_to_them() -> None:
    model = adapted(torch.bfloat16)
    in_one_operation(model)
    right = outputs(model)[0]
    for name, parameter in model.named_parameters():
        if "lora" in name:
            parameter.data = parameter.data.float()
    assert torch.equal(outputs(model)[0], right)


def test_without_its_adapter_and_merged_it_is_the_plain_layer() -> None:
    model = adapted(torch.float64)
    in_one_operation(model)
    layer: Any = next(module for module in model.modules() if type(module) is LowRankLinear)
    x = torch.randn(5, layer.in_features, dtype=torch.float64)
    with_adapter = layer(x)
    with model.disable_adapter():
        torch.testing.assert_close(layer(x), layer.base_layer(x))
    layer.merge()
    torch.testing.assert_close(layer(x), with_adapter)
    assert not torch.allclose(with_adapter, torch.zeros_like(with_adapter))


@pytest.mark.parametrize("changes", [{"lora_dropout": 0.1}, {"use_dora": True}, {"lora_bias": True}])
def test_adapters_that_are_more_than_that_stay_as_they_are(changes: dict[str, Any]) -> None:
    model = adapted(torch.float32, **changes)
    in_one_operation(model)
    assert not any(type(module) is LowRankLinear for module in model.modules())


def test_compiled_it_has_the_same_gradients() -> None:
    """A function that writes into its own tensors would have none at all then."""
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(6, 5)).requires_grad_(False).double()
    model: Any = get_peft_model(
        layer, LoraConfig(r=2, target_modules=["0"], init_lora_weights=False)
    ).double()
    in_one_operation(model)
    x = torch.randn(7, 6, dtype=torch.float64, requires_grad=True)
    found = []
    for run in (model, torch.compile(model, backend="aot_eager")):
        model.zero_grad()
        run(x).square().sum().backward()
        found.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(found[1], found[0])
    assert found[0].norm() > 0
