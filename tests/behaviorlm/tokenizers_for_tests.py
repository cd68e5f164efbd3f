"""Small byte-level tokenizers, trained on the spot, with or without a chat template; tables of events."""

from pathlib import Path

import pyarrow as pa
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

REPOSITORY = Path(__file__).parents[2]

CHATML = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# In the manner of Gemma: no system turn, another name for the assistant, texts stripped.
NO_SYSTEM = (
    "{% for message in messages %}"
    "{% if message.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "<|im_start|>{{ 'model' if message.role == 'assistant' else 'user' }}\n"
    "{{ message.content | trim }}<|im_end|>\n"
    "{% endfor %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CORPUS = [
    "system\nuser\nassistant\nEach line is one thing the user did. Say what the user does next.",
    " Google Maps\n Google\n camera on\n camera off (kitchen)\n Wed 18: lamp on\n Thu 9: pay the bill\n",
] * 4


def small_tokenizer(template: str | None = CHATML) -> PreTrainedTokenizerFast:
    """About 300 byte-level tokens, three control tokens, and `<think>`, an added token not marked special."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=320,
            special_tokens=SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    backend.add_tokens([AddedToken("<think>", special=False)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = template
    return tokenizer


def stories_folder() -> Path:
    """The small pretrained Llama beside the repository; where it is absent, the test says so."""
    folder = REPOSITORY.parent / "shared" / "data" / "stories260K"
    if not folder.is_dir():
        pytest.skip(f"the pretrained model of the shared data is absent ({folder})")
    return folder


def events_table(
    behaviors: list[str], before: dict[str, list[str | None]], after: dict[str, list[str | None]]
) -> pa.Table:
    """Events as the preparation hands them to the prompt encoder."""
    columns = {"behavior": pa.array(behaviors, pa.string())}
    columns |= {f"before.{name}": pa.array(values, pa.string()) for name, values in before.items()}
    columns |= {f"after.{name}": pa.array(values, pa.string()) for name, values in after.items()}
    return pa.table(columns)
