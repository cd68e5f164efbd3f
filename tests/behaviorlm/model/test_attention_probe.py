"""The probe tells right masks from wrong ones by more than a factor of ten, in any dtype, with adapters or not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import (
    Gemma3TextConfig,
    Llama4TextConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PreTrainedModel,
    Qwen3Config,
)

import behaviorlm.model.attention_choice
import behaviorlm.model.attention_probe
from behaviorlm.errors import ModelError
from behaviorlm.model.attention import TreeAttention
from behaviorlm.model.attention_choice import (
    SEEN_SHARE,
    TOLERANCE,
    choose_attention,
    planned_attention,
    seen_share,
)
from behaviorlm.model.attention_probe import difference_in_rows, largest_difference, small_model
from behaviorlm.model.config import ModelConfig
from behaviorlm.model.tree_model import TreeModel, body_of
from tests.behaviorlm.tiny_models import COMMON, CONFIGS, RECURRENT, WINDOW, tiny_model

DEEP_GEMMA = Gemma3TextConfig(
    **COMMON | {"num_hidden_layers": 12, "vocab_size": 3000, "max_position_embeddings": 32768},
    head_dim=8,
    sliding_window=512,
)
ARCHITECTURES = CONFIGS | {"deep gemma3": DEEP_GEMMA}
KINDS = {"mistral_window": "sliding", "phi3_window": "sliding"} | dict.fromkeys(
    ("gemma2", "gemma3", "qwen2_window", "deep gemma3"), "per_layer"
)


class Leaking(TreeAttention):
    """Every token attends to all those before it, of other branches, too."""

    def masks(self, end: Tensor, depth: Tensor) -> Any:
        return super().masks(torch.full_like(end, end.shape[-1]), depth)


class ByPlace(torch.nn.Module):
    """A body that is told places in the flattened tree in place of depths."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.inner = body_of(model)
        self.config = model.config

    def forward(self, input_ids: Tensor, position_ids: Tensor | None = None, **given: Any) -> Any:
        places = torch.arange(input_ids.shape[-1])[None].expand(input_ids.shape)
        return self.inner(input_ids=input_ids, position_ids=None if position_ids is None else places, **given)


def of_small(name: str) -> tuple[PreTrainedModel, TreeAttention]:
    """The small model of an architecture and the masks that it takes."""
    small = small_model(tiny_model(ARCHITECTURES[name]))
    assert small is not None
    kind: Any = KINDS.get(name, "full")
    window = small.config.sliding_window if kind != "full" else None
    return small, TreeAttention(kind, window, torch.float32)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_right_and_wrong_masks_are_told_apart_by_a_factor_of_ten_on_either_side(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, right = of_small(name)
    wrong: list[TreeAttention] = [Leaking(right.kind, right.window, right.additive)]
    if right.window is not None:
        wrong += [replace(right, window=right.window + step) for step in (-1, 1)]
        wrong.append(TreeAttention("full", None, right.additive))
        # one mask for layers of which some see everything
        is_mixed = "full_attention" in (getattr(small.config, "layer_types", None) or [])
        wrong += [replace(right, kind="sliding")] if is_mixed else []
    differences = [largest_difference(small, attention) for attention in wrong]
    by_place = ByPlace(small)
    monkeypatch.setattr(behaviorlm.model.tree_model, "body_of", lambda model: by_place)
    differences.append(largest_difference(small, right))
    monkeypatch.undo()
    assert largest_difference(small, right) * 10 <= TOLERANCE <= min(differences) / 10


@pytest.mark.parametrize("is_adapted", [False, True], ids=["base", "adapter"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_choice_is_the_same_in_any_type_of_numbers_with_adapters_or_not(
    name: str, dtype: torch.dtype, is_adapted: bool
) -> None:
    model: Any = tiny_model(ARCHITECTURES[name])
    model.to(dtype)
    if is_adapted:
        model = adapted(model)
    attention = choose_attention(model)
    expected = KINDS.get(name, "full")
    window = ARCHITECTURES[name].sliding_window if expected != "full" else None
    assert (attention.kind, attention.window, attention.additive) == (expected, window, dtype)
    leaking = Leaking(attention.kind, attention.window, attention.additive)
    assert seen_share(model, attention) * 10 <= SEEN_SHARE
    assert seen_share(model, leaking) >= 10 * SEEN_SHARE


def adapted(model: PreTrainedModel) -> Any:
    found = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")).eval()
    with torch.no_grad():
        for name, parameter in found.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.2)
    return found


def test_a_model_that_leaks_in_its_own_numbers_runs_as_plain_sequences(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where a kernel of another device ignores masks: the small model on the CPU does not show it."""
    model = tiny_model(LlamaConfig(**COMMON, rms_norm_eps=2e-6))  # which no other test has tried
    own = type(body_of(model)).forward

    def forward(self: Any, *args: Any, **given: Any) -> Any:
        if self is body_of(model):
            given["attention_mask"] = None
        return own(self, *args, **given)

    monkeypatch.setattr(type(body_of(model)), "forward", forward)
    assert choose_attention(model).kind == "plain"


def test_an_architecture_is_tried_once_whatever_its_weights_and_adapters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = []

    def counted(model: PreTrainedModel) -> PreTrainedModel | None:
        tried.append(model)
        return small_model(model)

    monkeypatch.setattr(behaviorlm.model.attention_choice, "small_model", counted)
    config = Qwen3Config(**COMMON, rms_norm_eps=3e-6, head_dim=8)
    for seed in range(3):
        model: Any = tiny_model(config, seed)
        choose_attention(model.to(torch.bfloat16 if seed else torch.float32))
    choose_attention(adapted(tiny_model(config)))
    assert len(tried) == 1
    choose_attention(tiny_model(Qwen3Config(**COMMON, rms_norm_eps=4e-6, head_dim=8)))
    assert len(tried) == 2


def test_the_small_model_has_each_kind_of_layer_once_and_little_else() -> None:
    model = tiny_model(DEEP_GEMMA)
    small = small_model(model)
    assert small is not None
    assert small.config.layer_types == ["sliding_attention", "full_attention"]
    assert small.config.sliding_window < WINDOW * 2 and small.config.vocab_size == 256
    assert (
        model.config.num_hidden_layers == 12 and model.config.sliding_window == 512
    )  # its own is left as it is
    wide = small_model(adapted(tiny_model(CONFIGS["gpt2"])).get_base_model())
    assert wide is not None and wide.config.n_layer == 1


def test_layers_that_lie_deeper_in_the_body_are_tried_too() -> None:
    model = tiny_model(OPTConfig(**COMMON, ffn_dim=48, word_embed_proj_dim=32))  # model.decoder.layers
    small = small_model(model)
    assert small is not None and small.config.num_hidden_layers == 1
    assert largest_difference(small, TreeAttention("full", None, torch.float32)) * 10 <= TOLERANCE
    assert largest_difference(small, Leaking("full", None, torch.float32)) >= 10 * TOLERANCE


def test_a_body_that_is_not_where_its_code_says_is_refused_by_name() -> None:
    model = tiny_model(Llama4TextConfig(**COMMON, head_dim=8, intermediate_size_mlp=48, num_local_experts=2))
    with pytest.raises(
        ModelError, match=r"model\.base: a llama4_text model cannot be run as body and LM head"
    ):
        choose_attention(model)


def test_what_takes_no_trees_is_refused_where_plain_sequences_are_not_allowed() -> None:
    model = tiny_model(RECURRENT)
    assert choose_attention(model).kind == "plain"
    with pytest.raises(ModelError, match=r"model\.base: a mamba model .* execution\.allow_plain is false"):
        choose_attention(model, allow_plain=False)
    assert choose_attention(tiny_model(CONFIGS["llama"]), allow_plain=False).kind == "full"


def test_a_tree_model_of_the_choice_in_bfloat16_runs() -> None:
    base: Any = tiny_model(DEEP_GEMMA)
    model = adapted(base.to(torch.bfloat16))
    assert TreeModel(model, choose_attention(model)).attention.kind == "per_layer"
    assert np.isfinite(seen_share(model, choose_attention(model)))


@pytest.mark.parametrize("name", ["gemma3", "mistral_window", "gpt2", "mamba"])
def test_a_plan_decides_without_weights_as_a_loaded_model_does(name: str, tmp_path: Path) -> None:
    config = (CONFIGS | {"mamba": RECURRENT})[name]
    config.save_pretrained(tmp_path)
    planned = planned_attention(ModelConfig(base=str(tmp_path), random_init=True))
    found = choose_attention(tiny_model(config))
    assert planned is not None and (planned.kind, planned.window) == (found.kind, found.window)


def test_a_tree_that_is_not_cut_does_not_show_that_a_model_takes_rows() -> None:
    """As where no small model can be made, and its own has a long window."""
    config = MistralConfig(**COMMON | {"max_position_embeddings": 32768}, sliding_window=512)
    assert difference_in_rows(tiny_model(config), TreeAttention("sliding", 512)) == float("inf")
    short = tiny_model(CONFIGS["mistral_window"])
    assert difference_in_rows(short, TreeAttention("sliding", WINDOW)) <= TOLERANCE
