"""A tiny Llama, and what it says of some tokens."""

from typing import Any

import torch

LLAMA: dict[str, Any] = {
    "vocab_size": 330,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}


IDS = torch.arange(3, 23).reshape(2, 10)


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model(input_ids=IDS).logits
    return result
