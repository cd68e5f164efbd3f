"""Fixtures that several tests of the method share."""

import pytest
from transformers import PreTrainedTokenizerFast

from tests.behaviorlm.tokenizers_for_tests import small_tokenizer


@pytest.fixture(scope="session")
def chat_tokenizer() -> PreTrainedTokenizerFast:
    """A small byte-level tokenizer with a ChatML template. Do not change it: it is shared."""
    return small_tokenizer()


@pytest.fixture(scope="session")
def plain_tokenizer() -> PreTrainedTokenizerFast:
    """The same tokenizer without a chat template. Do not change it: it is shared."""
    return small_tokenizer(template=None)
