"""Fixtures that several tests of the method share."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # what is slow to import, and most tests do without
    from transformers import PreTrainedTokenizerFast


@pytest.fixture(scope="session")
def chat_tokenizer() -> "PreTrainedTokenizerFast":
    """A small byte-level tokenizer with a ChatML template. Do not change it: it is shared."""
    from tests.behaviorlm.tokenizers_for_tests import small_tokenizer

    return small_tokenizer()


@pytest.fixture(scope="session")
def plain_tokenizer() -> "PreTrainedTokenizerFast":
    """The same tokenizer without a chat template. Do not change it: it is shared."""
    from tests.behaviorlm.tokenizers_for_tests import small_tokenizer

    return small_tokenizer(template=None)
