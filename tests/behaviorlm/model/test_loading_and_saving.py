"""Loading a base model: what is refused, dropout, random weights, dtypes, the fingerprint."""

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    BertConfig,
    BertForMaskedLM,
    DbrxConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    LlamaConfig,
    LlamaForCausalLM,
)

from behaviorlm.errors import ConfigError, ModelError
from behaviorlm.model.adapters import (
    add_adapter,
    load_trained,
    save_trained,
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
from tests.behaviorlm.model.small_llama import LLAMA, logits
from tests.behaviorlm.tiny_models import random_tree
from tests.behaviorlm.tokenizers_for_tests import small_tokenizer, stories_folder


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


def test_of_a_base_on_the_hub_machines_that_write_prompts_get_no_weights(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pytorch_model.bin", "model.gguf", "README.md"):
        (copied / name).touch()
    for name in ("original/model.safetensors", "onnx/config.json"):
        (copied / name).parent.mkdir()
        (copied / name).touch()

    def hub(name: str, revision: str | None, **patterns: Any) -> str:
        """The hub's own choice of files, taken from a folder."""
        assert (name, revision) == ("owner/model", "1a2b")
        there = [str(path.relative_to(copied)) for path in copied.rglob("*") if path.is_file()]
        for chosen in filter_repo_objects(there, **patterns):
            (tmp_path / "cache" / chosen).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(copied / chosen, tmp_path / "cache" / chosen)
        return str(tmp_path / "cache")

    def cached() -> set[str]:
        return {path.name for path in (tmp_path / "cache").rglob("*")}

    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub)
    config = ModelConfig(base="owner/model", revision="1a2b")
    own = {path.name for path in copied.iterdir() if path.suffix in (".json", ".jinja")}
    load_tokenizer(config)
    max_positions(config)
    model_without_weights(config)
    assert cached() == own and "tokenizer.json" in own
    load_model(config)
    assert cached() == own | {"model.safetensors"}


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
    with pytest.raises(ModelError, match=r"copied.* is no whole file of weights"):
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
