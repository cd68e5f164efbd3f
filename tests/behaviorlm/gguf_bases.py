"""Tiny random Gemma 3 models as GGUF files, written with the package gguf as llama.cpp's converter does."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Gemma3TextConfig, PreTrainedModel

from tests.behaviorlm.tiny_models import COMMON, VOCABULARY, WINDOW, tiny_model

gguf = pytest.importorskip("gguf", reason="the extra gguf is not installed")

CONFIG = Gemma3TextConfig(
    **COMMON | {"num_hidden_layers": 7, "intermediate_size": 64},
    rms_norm_eps=float(np.float32(1e-6)),  # as GGUF holds it
    head_dim=8,
    sliding_window=WINDOW,
    rope_parameters={
        "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
        "full_attention": {"rope_type": "default", "rope_theta": 1_000_000.0},
    },
)
"""Six layers with a window of 5 tokens but for the sixth, as in Gemma 3; its tokens are those of `TOKENS`."""
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:().,-'&/"
TOKENS = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "\n", "▁", *LETTERS, "▁M", "on", "▁Mon", "ar", "ba"]
TOKENS += [f"<unused{index}>" for index in range(VOCABULARY - len(TOKENS))]
CONTROL = {0, 1, 2, 4}


def gemma_model(seed: int = 0) -> PreTrainedModel:
    """A random float32 model, whose norms are binary fractions: the 1 that GGUF adds to them is taken off exactly."""
    model = tiny_model(CONFIG, seed)
    model.config.bos_token_id, model.config.eos_token_id = 2, 1
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.copy_(torch.randint(-64, 64, parameter.shape) / 256)
    return model


def write_gguf(model: PreTrainedModel, path: Path, kind: str = "F32", without: str = "-") -> None:
    """Write a Gemma 3 model. kind: F32 or Q8_0, for matrices. without: tensors whose names hold this are left out."""
    config = model.config
    writer = gguf.GGUFWriter(path, "gemma3")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(1_000_000.0)
    writer.add_sliding_window(config.sliding_window)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(TOKENS)
    writer.add_token_scores([-float(index) for index in range(len(TOKENS))])
    writer.add_token_types([3 if index in CONTROL else 1 for index in range(len(TOKENS))])
    for add, token in zip(
        (writer.add_bos_token_id, writer.add_eos_token_id, writer.add_unk_token_id, writer.add_pad_token_id),
        (2, 1, 3, 0),
        strict=True,
    ):
        add(token)
    writer.add_add_bos_token(True)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GEMMA3, config.num_hidden_layers)
    for name, parameter in model.named_parameters():
        values = parameter.detach().numpy() + np.float32("norm" in name)
        if without in name:
            continue
        stored = gguf.GGMLQuantizationType[kind if values.ndim > 1 else "F32"]
        data = gguf.quants.quantize(values, stored)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), data, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def rounded(model: PreTrainedModel, kind: str) -> PreTrainedModel:
    """The model with its matrices as they come out of blocks of that kind, by the package gguf itself."""
    stored = gguf.GGMLQuantizationType[kind]
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                blocks = gguf.quants.quantize(parameter.numpy(), stored)
                parameter.copy_(torch.from_numpy(gguf.quants.dequantize(blocks, stored)))
    return model
