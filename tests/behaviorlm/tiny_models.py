"""Tiny random models of the supported architectures, and random trees for them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    Phi3Config,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from behaviorlm.trees.token_tree import TokenTree, TreeWriter

VOCABULARY = 97
COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
WINDOW = 5

CONFIGS: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**COMMON),
    "qwen2": Qwen2Config(**COMMON),
    "qwen3": Qwen3Config(**COMMON, head_dim=8),
    "mistral": MistralConfig(**COMMON, sliding_window=None),
    "gpt2": GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=256, bos_token_id=1, eos_token_id=2
    ),
    "phi3": Phi3Config(**COMMON),
    "gpt_neox": GPTNeoXConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
    ),
    "mistral_window": MistralConfig(**COMMON, sliding_window=WINDOW),
    "phi3_window": Phi3Config(**COMMON, sliding_window=WINDOW),
    "gemma2": Gemma2Config(**COMMON, head_dim=8, sliding_window=WINDOW),
    "gemma3": Gemma3TextConfig(**COMMON, head_dim=8, sliding_window=WINDOW),
    "qwen2_window": Qwen2Config(
        **COMMON, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1
    ),
}
RECURRENT = MambaConfig(
    vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, bos_token_id=1, eos_token_id=2, pad_token_id=0
)


def tiny_model(config: PretrainedConfig, seed: int = 0) -> PreTrainedModel:
    """A random fp32 model; weights large enough that its predictions are far from uniform."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
    return model


def random_tokens(random: np.random.Generator, low: int, high: int) -> np.ndarray:
    """Between `low` and `high` random token ids."""
    return random.integers(3, VOCABULARY, random.integers(low, high + 1)).astype(np.int32)


def random_tree(seed: int, events: int = 5) -> TokenTree:
    """A random pack: an instruction, two timelines of events with a sample at each, and a conversation."""
    random = np.random.default_rng(seed)
    writer = TreeWriter()
    writer.open(random_tokens(random, 4, 8))
    item = 0
    for _ in range(2):
        opened = 0
        for _ in range(events):
            writer.open(random_tokens(random, 2, 5))
            opened += 1
            if random.random() < 0.8:
                question, label = random_tokens(random, 0, 3), random_tokens(random, 1, 4)
                written = np.concatenate([question, label])
                is_label = np.arange(len(written)) >= len(question)
                writer.chain(written, is_label, weight=0.1, part=0, item=item)
                item += 1
        for _ in range(opened):
            writer.close()
    writer.close()
    conversation = random_tokens(random, 12, 20)
    marked = random.random(len(conversation)) < 0.5
    marked[0], marked[3] = False, True
    writer.chain(conversation, marked, weight=0.3 / marked.sum(), part=1, item=item)
    return writer.finish()


def trainable_parameters(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The parameters that training changes, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def window_writer(
    instruction: np.ndarray, lines: Sequence[np.ndarray], questions: Sequence[np.ndarray]
) -> Callable[[TreeWriter], list[int]]:
    """Writes an instruction, history lines below each other and after each a question; as prompts of a window are."""

    def write(writer: TreeWriter) -> list[int]:
        writer.open(instruction)
        last = []
        for line, question in zip(lines, questions, strict=True):
            writer.open(line)
            last.append(writer.leaf(question))
        return last

    return write
