"""The language model: what is refused, adapters that start as the identity, saving, loading and export."""

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    DbrxConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from behaviorlm.errors import ConfigError, ModelError
from behaviorlm.model.adapters import (
    add_adapter,
    check_adapter,
    export_merged,
    load_trained,
    save_trained,
    trainable_parameters,
)
from behaviorlm.model.attention import TreeAttention
from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.model.base_model import (
    load_model,
    load_model_config,
    load_tokenizer,
    max_positions,
    model_fingerprint,
    model_without_weights,
    removed_dropout,
    weights_dtype,
)
from behaviorlm.model.config import ModelConfig
from behaviorlm.model.tree_model import TreeModel, pack_tensors
from behaviorlm_lab.pretraining.recipe import ASSET
from tests.behaviorlm.tiny_models import random_tree
from tests.behaviorlm.tokenizers_for_tests import small_tokenizer, stories_folder

LLAMA: dict[str, Any] = {
    "vocab_size": 330,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
IDS = torch.arange(3, 23).reshape(2, 10)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama with its tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "llama"
    torch.manual_seed(7)
    LlamaForCausalLM(LlamaConfig(**LLAMA)).save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def copied(base: Path, tmp_path: Path) -> Path:
    """A copy of the base to damage."""
    return Path(shutil.copytree(base, tmp_path / "copied"))


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model(input_ids=IDS).logits
    return result


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


def test_base_model_and_tokenizer_load_ready_to_use(base: Path) -> None:
    config = ModelConfig(base=str(base))
    model, tokenizer = load_model(config), load_tokenizer(config)
    assert not model.training and model.config._attn_implementation == "sdpa"
    assert max_positions(config) == 128
    assert tokenizer.chat_template == small_tokenizer().chat_template


def test_pretrained_stories_model_predicts_text() -> None:
    config = ModelConfig(base=str(stories_folder()))
    tokenizer, model = load_tokenizer(config), load_model(config)
    ids = torch.tensor([tokenizer("Once upon a time, there was a little girl named")["input_ids"]])
    with torch.no_grad():
        loss = model(input_ids=ids, labels=ids).loss
    assert max_positions(config) == 512 and loss < 2.0


def test_positions_are_found_under_the_names_of_other_architectures(tmp_path: Path) -> None:
    small = GPT2Config(vocab_size=320, n_embd=16, n_layer=1, n_head=2, n_positions=77)
    GPT2LMHeadModel(small).save_pretrained(tmp_path)
    assert max_positions(ModelConfig(base=str(tmp_path))) == 77


@pytest.mark.parametrize("name", ["./absent", "/absent/model", "~/absent", "a/b/c", "../absent/x"])
def test_missing_folder_is_refused_without_asking_the_hub(name: str) -> None:
    with pytest.raises(ModelError, match="there is no folder"):
        load_model(ModelConfig(base=name))


def test_hub_name_without_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        ModelError, match=r"nobody/no-such-model.*download the model elsewhere and give its folder"
    ):
        load_tokenizer(ModelConfig(base="nobody/no-such-model"))


def test_folder_without_tokenizer_is_refused_with_a_remedy(copied: Path) -> None:
    (copied / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"copied holds a model but no tokenizer; copy tokenizer\.json"):
        load_tokenizer(ModelConfig(base=str(copied)))


def test_folder_without_config_is_refused(copied: Path) -> None:
    (copied / "config.json").unlink()
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_model(ModelConfig(base=str(copied)))


def test_pickled_weights_are_refused_with_a_remedy(copied: Path) -> None:
    torch.save(load_file(copied / "model.safetensors"), copied / "pytorch_model.bin")
    (copied / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no \*\.safetensors weights; convert"):
        load_model(ModelConfig(base=str(copied)))


def test_truncated_weights_are_refused_by_folder(copied: Path) -> None:
    whole = (copied / "model.safetensors").read_bytes()
    (copied / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="copied: its weights cannot be loaded"):
        load_model(ModelConfig(base=str(copied)))


def test_weights_that_do_not_fill_the_model_are_refused(copied: Path) -> None:
    weights = load_file(copied / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack 1 .*model\.layers\.1\.mlp\.up_proj\.weight"):
        load_model(ModelConfig(base=str(copied)))


def test_model_that_is_no_causal_language_model_is_refused(tmp_path: Path) -> None:
    small = BertConfig(
        vocab_size=320, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    BertForMaskedLM(small).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="BertForMaskedLM, which is not a causal language model"):
        load_model(ModelConfig(base=str(tmp_path)))


def test_tokenizer_with_more_tokens_than_embeddings_is_refused(tmp_path: Path) -> None:
    LlamaForCausalLM(LlamaConfig(**{**LLAMA, "vocab_size": 200})).save_pretrained(tmp_path)
    small_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="only 200 embeddings"):
        load_tokenizer(ModelConfig(base=str(tmp_path)))


def test_config_overrides_change_the_network_and_unknown_ones_are_refused(base: Path) -> None:
    shallow = ModelConfig(base=str(base), config_overrides={"num_hidden_layers": 1})
    assert len(load_model(shallow).model.layers) == 1
    with pytest.raises(ConfigError, match=r"model\.config_overrides\.hidden_layers"):
        load_model(ModelConfig(base=str(base), config_overrides={"hidden_layers": 1}))


@pytest.fixture(scope="module")
def dropping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random GPT-2 with the dropout that GPT-2 has by default."""
    folder = tmp_path_factory.mktemp("models") / "gpt2"
    torch.manual_seed(3)
    shape: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}
    GPT2LMHeadModel(GPT2Config(vocab_size=97, **shape, bos_token_id=1, eos_token_id=2)).save_pretrained(
        folder
    )
    return folder


def test_in_training_a_tree_gives_the_loss_of_plain_sequences_though_the_base_has_dropout(
    dropping: Path,
) -> None:
    assert GPT2Config.from_pretrained(dropping).resid_pdrop == 0.1
    model = add_adapter(load_model(ModelConfig(base=str(dropping))), ModelConfig(base=str(dropping)), 0)
    batch = pack_tensors(random_tree(seed=1), "cpu")
    losses = []
    for attention in (choose_attention(model), TreeAttention("plain")):
        model.train()
        losses.append(TreeModel(model, attention, parts=2)(batch)[0].item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    model.eval()
    assert TreeModel(model, attention, parts=2)(batch)[0].item() == pytest.approx(losses[0], rel=1e-5)


def test_dropout_of_the_base_is_removed_unless_an_override_asks_for_it(
    dropping: Path, tmp_path: Path
) -> None:
    removed = {"attn_pdrop", "embd_pdrop", "resid_pdrop"}
    plain = ModelConfig(base=str(dropping))
    assert set(removed_dropout(plain)) == removed
    assert {getattr(load_model_config(plain), key) for key in removed} == {0.0}
    asked = ModelConfig(base=str(dropping), adaptation="full", config_overrides={"resid_pdrop": 0.2})
    assert set(removed_dropout(asked)) == removed - {"resid_pdrop"}
    save_trained(load_model(asked), tmp_path)
    for model in (load_model(asked), load_trained(asked, tmp_path)):
        assert (model.config.resid_pdrop, model.config.attn_pdrop) == (0.2, 0.0)


def test_dropout_is_removed_in_configurations_within_the_configuration(tmp_path: Path) -> None:
    DbrxConfig(n_layers=1, emb_pdrop=0.2, attn_config={"attn_pdrop": 0.3}).save_pretrained(tmp_path)
    config = ModelConfig(base=str(tmp_path))
    loaded = load_model_config(config)
    assert removed_dropout(config) == ["attn_pdrop", "emb_pdrop"]
    assert (loaded.emb_pdrop, loaded.attn_config.attn_pdrop) == (0.0, 0.0)


def test_a_base_without_dropout_is_loaded_as_it_is_stored(base: Path) -> None:
    neox = GPTNeoXConfig(num_hidden_layers=1)
    assert neox.classifier_dropout == 0.1  # of a head that a causal language model never runs
    neox.save_pretrained(base.parent / "neox")
    for folder in (base, ASSET, base.parent / "neox"):
        config = ModelConfig(base=str(folder))
        assert removed_dropout(config) == []
        assert load_model_config(config).to_dict() == AutoConfig.from_pretrained(folder).to_dict()


def test_random_weights_follow_their_seed_and_nothing_else(base: Path) -> None:
    config = ModelConfig(base=str(base), random_init=True)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = logits(load_model(config))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    assert torch.equal(logits(load_model(config)), first)
    assert not torch.equal(logits(load_model(config.model_copy(update={"random_init_seed": 1}))), first)
    assert not torch.equal(logits(load_model(ModelConfig(base=str(base)))), first)


@pytest.mark.parametrize("random_init", [False, True])
def test_bfloat16_weights_leave_rotary_positions_in_float32(base: Path, random_init: bool) -> None:
    model = load_model(ModelConfig(base=str(base), dtype="bfloat16", random_init=random_init))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert {buffer.dtype for buffer in model.buffers()} == {torch.float32}


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("is_stated", [True, False])
def test_the_dtype_of_the_weights_is_told_without_loading_them(
    copied: Path, stored: torch.dtype, is_stated: bool
) -> None:
    load_model(ModelConfig(base=str(copied))).to(stored).save_pretrained(copied)  # type: ignore[arg-type]
    stated = json.loads((copied / "config.json").read_text())
    assert stated["dtype"] == str(stored).removeprefix("torch.")
    if not is_stated:
        del stated["dtype"]
        (copied / "config.json").write_text(json.dumps(stated))
    for changes in ({}, {"dtype": "float32"}, {"dtype": "bfloat16"}, {"random_init": True}):
        config = ModelConfig.model_validate({"base": str(copied), **changes})
        assert {parameter.dtype for parameter in load_model(config).parameters()} == {weights_dtype(config)}


def test_the_network_without_weights_has_the_modules_of_the_model_and_takes_no_memory(base: Path) -> None:
    config = ModelConfig(base=str(base))
    network, model = model_without_weights(config), load_model(config)
    assert network is not None
    assert {parameter.device.type for parameter in network.parameters()} == {"meta"}
    assert [name for name, _ in network.named_modules()] == [name for name, _ in model.named_modules()]


def test_fingerprint_follows_content_and_not_place(base: Path, copied: Path) -> None:
    config = ModelConfig(base=str(base))
    assert model_fingerprint(ModelConfig(base=str(copied))) == model_fingerprint(config)
    assert model_fingerprint(config.model_copy(update={"random_init": True})) != model_fingerprint(config)
    (copied / "README.md").write_text("notes")
    assert model_fingerprint(ModelConfig(base=str(copied))) == model_fingerprint(config)
    (copied / "chat_template.jinja").write_text("{{ messages }}")
    assert model_fingerprint(ModelConfig(base=str(copied))) != model_fingerprint(config)


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
