"""The world's base model: an ordinary transformers folder, the same for a seed, that learns what it reads."""

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from behaviorlm.errors import ModelError
from behaviorlm.events.normalization import WEEKDAYS
from behaviorlm_lab.pretraining import base_model
from behaviorlm_lab.pretraining.base_model import make_base_model, make_base_tokenizer
from behaviorlm_lab.pretraining.documents import HELD_OUT, chats
from behaviorlm_lab.pretraining.people import invented_people
from behaviorlm_lab.pretraining.probe import PROBE_CHATS, probe_of
from behaviorlm_lab.pretraining.recipe import ASSET, CONVERSATIONS, GATE, RECIPE_FILE, SENTENCES, SIZES, STEPS
from behaviorlm_lab.pretraining.tokenizer import POSITIONS, TOKENIZER_SIZE, TURN_END
from behaviorlm_lab.world.generator import PLACES
from behaviorlm_lab.world.process import default_world
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
    make_base_tokenizer(invented_people(default_world(), 0), 0).save_pretrained(folder)
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


def test_each_piece_of_a_line_of_history_is_one_token(tokenizer: PreTrainedTokenizerBase) -> None:
    clock = [f"{day} {hour:02d}:" for day in WEEKDAYS for hour in range(24)]
    pieces = [
        *clock,
        *(f" {name}" for name in default_world().names),
        *(f" ({place})\n" for place in PLACES),
    ]
    assert {len(ids) for ids in tokenizer(pieces, add_special_tokens=False)["input_ids"]} == {1}
    assert len(tokenizer.encode("Mon 14: open music (campus)\n", add_special_tokens=False)) == 3
    assert len(tokenizer) < TOKENIZER_SIZE


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


def test_sizes_are_siblings(tmp_path: Path) -> None:
    sizes, parameters = {}, {}
    for size in SIZES:
        with little_text():
            folder = make_base_model(tmp_path / size, steps=1, size=size)
        sizes[size] = (folder / "model.safetensors").stat().st_size
        parameters[size] = json.loads((folder / RECIPE_FILE).read_text())["parameters"]
    assert sizes["small"] < sizes["base"] / 2 < sizes["base"] < sizes["large"] / 1.5 < 10_000_000
    assert 700_000 < parameters["base"] < 1_000_000


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


def test_a_base_that_has_not_learned_the_causes_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with little_text():
        monkeypatch.setattr(base_model, "GATE", GATE)
        with pytest.raises(
            ModelError, match=rf"after 2 steps the model names 0\.\d\d of .* less than {GATE}"
        ):
            make_base_model(tmp_path / "base", steps=2, size="small")
        assert not (tmp_path / "base").exists()
        make_base_model(
            tmp_path / "ignorant", steps=2, knowledge=0, size="small"
        )  # there is nothing to learn
        make_base_model(tmp_path / "random", steps=0, size="small")
    recipe = json.loads((tmp_path / "ignorant" / RECIPE_FILE).read_text())
    assert recipe["curve"][-1]["probe"] == 0


def test_the_asset_is_a_whole_run_of_the_recipe() -> None:
    recipe = json.loads((ASSET / RECIPE_FILE).read_text())
    assert (recipe["world"], recipe["size"], recipe["steps"]) == (default_world().version, "base", STEPS)
    assert (recipe["sentences"], recipe["conversations"]) == (SENTENCES, CONVERSATIONS)
    assert recipe["seed"] == 0 and recipe["knowledge"] == 1.0
    assert [point["step"] for point in recipe["curve"]][-1] == STEPS
    assert sum(file.stat().st_size for file in ASSET.iterdir()) < 4_000_000


def test_the_tokenizer_of_the_asset_is_that_of_the_recipe(tokenizer_folder: Path) -> None:
    assert (tokenizer_folder / "tokenizer.json").read_bytes() == (ASSET / "tokenizer.json").read_bytes()


def test_the_asset_names_effects_of_people_it_has_not_read_of() -> None:
    """The probe that it was let go with, on fewer of the same chats."""
    tokenizer = AutoTokenizer.from_pretrained(ASSET, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(ASSET, local_files_only=True).eval()
    people = invented_people(default_world(), 0)
    probe = probe_of(tokenizer, people, chats(tokenizer, people, PROBE_CHATS // 4, HELD_OUT))
    assert len(probe.chats) > 20
    assert probe.share_named(model) > GATE - 0.1
    recipe = json.loads((ASSET / RECIPE_FILE).read_text())
    assert recipe["curve"][-1]["probe"] > GATE
