"""A GGUF file as base: the numbers, the tokens and the windows of the model that was written, told by its content."""

import os
import shutil
from pathlib import Path

import pytest
import torch

from behaviorlm.errors import ModelError
from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.model.base_model import (
    base_folder,
    check_weights,
    load_model,
    load_tokenizer,
    model_fingerprint,
    weights_dtype,
)
from behaviorlm.model.config import ModelConfig
from behaviorlm.model.gguf_files import CACHE_VARIABLE, content_hash, unpack, unpacked_folder
from behaviorlm.predictor.writing import write_weights
from behaviorlm.prompts.config import PromptConfig
from behaviorlm.prompts.encoder import PromptEncoder
from tests.behaviorlm.gguf_bases import CONFIG, gemma_model, rounded, write_gguf

IDS = torch.randint(5, 90, (3, 24), generator=torch.Generator().manual_seed(0))  # longer than the window of 5


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A tiny Gemma 3 in float32."""
    write_gguf(gemma_model(), tmp_path / "tiny.gguf")
    return tmp_path / "tiny.gguf"


@pytest.mark.parametrize("kind", ["F32", "Q8_0"])
def test_logits_in_float32_are_those_of_the_model_that_was_written(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(gemma_model(), path, kind)
    loaded = load_model(ModelConfig(base=str(path), dtype="float32"))
    expected = gemma_model() if kind == "F32" else rounded(gemma_model(), kind)
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=IDS).logits, expected(input_ids=IDS).logits)
    for key in ("layer_types", "sliding_window", "rope_parameters"):
        assert getattr(loaded.config, key) == getattr(CONFIG, key), key
    assert choose_attention(loaded).kind == "per_layer"


def test_without_a_dtype_it_is_the_same_model_rounded_to_bfloat16(file: Path) -> None:
    config = ModelConfig(base=str(file))
    loaded = load_model(config)
    check_weights(config)
    assert weights_dtype(config) == torch.bfloat16
    for (name, found), (_, stored) in zip(
        loaded.named_parameters(), gemma_model().named_parameters(), strict=True
    ):
        assert torch.equal(found, stored.to(torch.bfloat16)), name


def test_its_tokens_are_those_of_the_file_and_a_prompt_begins_as_the_model_expects(file: Path) -> None:
    tokenizer = load_tokenizer(ModelConfig(base=str(file)))
    assert tokenizer.convert_ids_to_tokens(tokenizer("Mon bar\n", add_special_tokens=False)["input_ids"]) == (
        ["M", "on", "▁", "b", "ar", "\n"]
    )
    prompt = PromptEncoder(tokenizer, PromptConfig(instruction="on")).prompt_tokens(["bar", "no"], 256, 9)
    assert tokenizer.convert_ids_to_tokens(prompt.instruction_ids.tolist()) == ["<bos>", "on", "\n"]
    assert tokenizer.convert_ids_to_tokens(prompt.terminator_ids.tolist()) == ["\n"]


def test_it_is_unpacked_once_and_told_by_content_wherever_it_lies(file: Path, cache: Path) -> None:
    config = ModelConfig(base=str(file))
    folder = base_folder(config)
    before = (folder / "model.safetensors").stat().st_mtime_ns
    elsewhere = file.with_name("other.gguf")
    shutil.copyfile(file, elsewhere)
    moved = config.model_copy(update={"base": str(elsewhere)})
    assert base_folder(moved) == folder and (folder / "model.safetensors").stat().st_mtime_ns == before
    assert sorted(path.name for path in (cache / "gguf").iterdir()) == [folder.name]  # nothing half done
    assert model_fingerprint(moved) == model_fingerprint(config)
    (folder / "config.json").write_text(
        (folder / "config.json").read_text() + "\n"
    )  # another version's writing
    assert model_fingerprint(config) == model_fingerprint(moved)
    write_gguf(gemma_model(seed=1), elsewhere)
    assert model_fingerprint(moved) != model_fingerprint(config)
    assert unpacked_folder(elsewhere, "auto") != folder


def test_two_that_unpack_at_once_leave_one_whole_folder(file: Path, cache: Path, tmp_path: Path) -> None:
    folder = cache / "gguf" / f"{content_hash(file)}-bfloat16"
    of_another, of_one_killed = (folder.with_name(f".unpacking-{name}") for name in ("now", "long ago"))
    of_another.mkdir(parents=True)
    of_one_killed.mkdir()
    os.utime(of_one_killed, (0, 0))
    unpack(file, folder, "bfloat16")
    unpack(file, folder, "bfloat16")  # the later one finds it there
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, of_another.name}
    assert load_model(ModelConfig(base=str(folder)))


def test_an_exported_base_is_whole_and_has_the_fingerprint_that_is_checked(
    file: Path, tmp_path: Path
) -> None:
    config = ModelConfig(base=str(file))
    exported = tmp_path / "exported"
    exported.mkdir()
    weights = write_weights(exported, config, load_model(config), is_tuned=False, merged=False)
    copied = weights.base.model_copy(update={"base": str(exported / weights.base.base)})
    assert weights.base_fingerprint == model_fingerprint(copied)
    assert load_model(copied)


@pytest.mark.parametrize("damage", ["another kind", "cut off", "no magic", "a tensor less"])
def test_what_cannot_be_unpacked_is_refused_with_its_reason_and_leaves_nothing(
    file: Path, cache: Path, damage: str
) -> None:
    content = file.read_bytes()
    told = {
        "another kind": r"tiny\.gguf cannot be unpacked .*gemma3, ",
        "cut off": r"tiny\.gguf cannot be unpacked .*cut off",
        "no magic": r"is no GGUF file: it begins with b'<htm'",
        "a tensor less": r"lacks 7 of the model's parameters, such as model\.layers\.0\.mlp\.up_proj\.weight",
    }[damage]
    if damage == "another kind":
        file.write_bytes(content.replace(b"gemma3", b"gemmaX"))
    elif damage == "cut off":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "no magic":
        file.write_bytes(b"<html>no such file</html>")
    else:
        write_gguf(gemma_model(), file, without="up_proj")
    with pytest.raises(ModelError, match=told):
        load_model(ModelConfig(base=str(file)))
    assert not cache.exists() or not list((cache / "gguf").iterdir())


def test_without_the_package_it_says_which_extra_is_missing(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.utils.is_gguf_available", lambda: False)
    with pytest.raises(ModelError, match=r"the package gguf, .* pip install 'behaviorlm\[gguf\]'"):
        base_folder(ModelConfig(base=str(file)))


def test_a_full_disk_is_told_before_anything_is_written(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(ModelError, match=rf"has 0\.0 GB left, .*{CACHE_VARIABLE}"):
        base_folder(ModelConfig(base=str(file)))


def test_a_file_that_is_not_there_is_never_asked_of_the_hub() -> None:
    with pytest.raises(ModelError, match=r"there is no folder models/tiny\.gguf"):
        base_folder(ModelConfig(base="models/tiny.gguf"))
