"""The folder of a tiny base model that several tests load."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
)

from tests.behaviorlm.model.small_llama import LLAMA
from tests.behaviorlm.tokenizers_for_tests import small_tokenizer


@pytest.fixture(scope="session")
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
