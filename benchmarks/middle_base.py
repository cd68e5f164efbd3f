"""A base between the embedded one and real ones: a Llama of 17 million parameters, whose weights are drawn."""

from pathlib import Path

import torch
from transformers import LlamaConfig, PreTrainedModel

from behaviorlm.model.base_model import load_tokenizer
from benchmarks.gpu_shapes import EMBEDDED, Shape, drawn_model

MIDDLE = LlamaConfig(
    vocab_size=8192,
    hidden_size=384,
    intermediate_size=1024,
    num_hidden_layers=8,
    num_attention_heads=6,
    num_key_value_heads=6,
    max_position_embeddings=2048,
    tie_word_embeddings=True,
)


def middle_model() -> PreTrainedModel:
    """Frozen, in float32; its tokenizer is that of the embedded base."""
    return drawn_model(Shape("17M", MIDDLE), torch.device("cpu"), torch.float32)


def write_middle(folder: Path) -> Path:
    """The model with its tokenizer as a folder of a base."""
    middle_model().save_pretrained(folder)
    load_tokenizer(EMBEDDED).save_pretrained(folder)
    return folder
