"""The world's base model: an ordinary transformers folder, the same for a seed, that learns what it reads."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from behaviorlm_lab.pretraining.base_model import POSITIONS, TURN_END, make_base_model, make_tokenizer
from behaviorlm_lab.pretraining.recipe import ASSET, CONVERSATIONS, RECIPE_FILE, SENTENCES, SIZES, STEPS
from behaviorlm_lab.world.process import default_world
from behaviorlm_lab.world.text import knowledge_sentences, small_talk
from tests.platform.lab.little_text import little_text


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small one that has read little."""
    with little_text():
        return make_base_model(tmp_path_factory.mktemp("world") / "base", seed=0, steps=40, size="small")


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tokenizer of the recipe's whole text, which is that of every size."""
    folder = tmp_path_factory.mktemp("tokenizer")
    sentences = knowledge_sentences(default_world(), SENTENCES, seed=0, knowledge=1.0)
    make_tokenizer(default_world(), sentences, small_talk(CONVERSATIONS, seed=0)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(tokenizer_folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tokenizer_folder, local_files_only=True)


def test_the_folder_loads_offline_as_any_causal_language_model(base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(base, local_files_only=True)
    assert (base / "model.safetensors").exists() and not list(base.glob("*.bin"))
    assert model.config.max_position_embeddings == POSITIONS >= 512
    assert model.config.vocab_size == len(tokenizer)
    assert tokenizer.eos_token == TURN_END and model.config.eos_token_id == tokenizer.eos_token_id
    with torch.no_grad():
        logits = model(input_ids=torch.randint(len(tokenizer), (1, 40))).logits
    assert logits.dtype == torch.float32 and torch.isfinite(logits).all()


@given(text=st.text())
def test_any_text_comes_back_from_its_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


def test_names_take_few_tokens_and_lines_of_history_too(tokenizer: PreTrainedTokenizerBase) -> None:
    lengths = [len(tokenizer.encode(f" {name}", add_special_tokens=False)) for name in default_world().names]
    assert max(lengths) <= 4
    assert len(tokenizer.encode("Mon 14: open music (campus)\n", add_special_tokens=False)) <= 9
    assert len(tokenizer) <= 1024


def test_the_chat_template_renders_turns_and_the_opening_of_an_answer(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello!"}]
    assert tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n"
    )
    ids = tokenizer.encode(TURN_END, add_special_tokens=False)
    assert ids == [tokenizer.eos_token_id]
    assert len(tokenizer.encode(TURN_END, add_special_tokens=False, split_special_tokens=True)) > 1


def test_sizes_are_siblings_within_ten_megabytes(tmp_path: Path) -> None:
    sizes, parameters = {}, {}
    for size in SIZES:
        with little_text():
            folder = make_base_model(tmp_path / size, steps=1, size=size)
        sizes[size] = (folder / "model.safetensors").stat().st_size
        parameters[size] = json.loads((folder / RECIPE_FILE).read_text())["parameters"]
    assert sizes["small"] < sizes["base"] / 2 < sizes["base"] < sizes["large"] / 1.5 < 10_000_000
    assert 900_000 < parameters["base"] < 1_100_000


def test_loss_falls_while_it_reads(base: Path) -> None:
    recipe = json.loads((base / "pretraining.json").read_text())
    assert [point["step"] for point in recipe["curve"]] == [*range(2, 41, 2)]
    losses = [point["loss"] for point in recipe["curve"]]
    assert math.log(recipe["vocabulary"]) + 0.1 > losses[0] > losses[9] > losses[19]
    assert losses[19] < losses[0] - 1
    assert "synthetic" in recipe["note"]


def test_a_seed_fixes_the_files_and_leaves_global_random_state_alone(tmp_path: Path) -> None:
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    with little_text():
        one, two, other = (
            make_base_model(tmp_path / name, seed, steps=2, size="small")
            for name, seed in (("one", 1), ("two", 1), ("other", 2))
        )
    assert torch.equal(torch.random.get_rng_state(), before)
    for name in ("tokenizer.json", "model.safetensors", "config.json", "pretraining.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    assert (one / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes()


def test_the_asset_is_a_whole_run_of_the_recipe() -> None:
    recipe = json.loads((ASSET / RECIPE_FILE).read_text())
    assert (recipe["world"], recipe["size"], recipe["steps"]) == (default_world().version, "base", STEPS)
    assert (recipe["sentences"], recipe["conversations"]) == (SENTENCES, CONVERSATIONS)
    assert recipe["seed"] == 0 and recipe["knowledge"] == 1.0
    assert [point["step"] for point in recipe["curve"]][-1] == STEPS
    assert sum(file.stat().st_size for file in ASSET.iterdir()) < 10_000_000


def test_the_tokenizer_of_the_asset_is_that_of_the_recipe(tokenizer_folder: Path) -> None:
    assert (tokenizer_folder / "tokenizer.json").read_bytes() == (ASSET / "tokenizer.json").read_bytes()


@pytest.mark.slow
def test_the_asset_has_learned_what_follows_from_what() -> None:
    """With its cause in a diary, an effect is clearly likelier a step later than without, for every link."""
    folder = ASSET
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()

    def score(start: str, continuation: str) -> float:
        start_ids, ids = (tokenizer.encode(part, add_special_tokens=False) for part in (start, continuation))
        with torch.no_grad():
            log_probs = model(input_ids=torch.tensor([start_ids + ids])).logits[0].log_softmax(-1)
        return sum(float(log_probs[len(start_ids) - 1 + i, token]) for i, token in enumerate(ids))

    gains = []
    for cause, effect in default_world().links:
        for between in ("open music", "take the bus", "order food"):
            with_cause = score(f"What Ana did: read messages, {cause}, {between},", f" {effect}")
            without = score(f"What Ana did: read messages, play a game, {between},", f" {effect}")
            gains.append(with_cause - without)
    per_link = np.reshape(gains, (-1, 3)).mean(axis=1)
    assert per_link.min() > 0.5 and per_link.mean() > 2, dict(
        zip(default_world().links, per_link, strict=True)
    )
