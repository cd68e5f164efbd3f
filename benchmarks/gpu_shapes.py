"""What a GPU is measured on: random weights in the shapes of usual bases, a drawn log, and names as token ids.

Nothing is downloaded. The tokenizer is that of the embedded base; its ids are spread over the larger vocabulary.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, PretrainedConfig, PreTrainedModel, Qwen2Config

import behaviorlm
from behaviorlm.model.adapters import AdaptedModel, add_adapter
from behaviorlm.model.base_model import load_tokenizer
from behaviorlm.model.config import ModelConfig
from behaviorlm.prompts.config import PromptConfig
from behaviorlm.prompts.encoder import PromptEncoder, PromptTokens
from behaviorlm.timelines.parts import (
    TimelinePart,
    TokenRuns,
    Window,
    labels_with_terminator,
    no_profiles,
    window_starts,
)
from behaviorlm.trees.token_tree import Int32

EMBEDDED = ModelConfig(base=str(Path(behaviorlm.__file__).parent / "assets" / "base"))
THINGS = (
    "lamp,camera,music,door,heater,television,vacuum,blinds,kettle,washer,fan,oven,speaker,garden,window,garage,"
    "coffee,alarm,bath,kitchen,bedroom,curtain,fridge,printer,phone"
)
STATES = "on,off,up,down,timer"


@dataclass(frozen=True)
class Shape:
    """A base in name and configuration. Its weights are drawn."""

    name: str
    config: PretrainedConfig


@dataclass(frozen=True)
class DrawnLog:
    """Timelines of one part with the tokens that its prompts share, as ids of one vocabulary."""

    part: TimelinePart
    prompt: PromptTokens

    @property
    def label_ids(self) -> list[Int32]:
        """Each name with its terminator."""
        return labels_with_terminator(self.prompt)


def _qwen(hidden: int, feed_forward: int, layers: int, heads: int) -> Qwen2Config:
    return Qwen2Config(
        vocab_size=151_936,
        hidden_size=hidden,
        intermediate_size=feed_forward,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=2,
        max_position_embeddings=32_768,
        tie_word_embeddings=True,
    )


def _llama(**sizes: int) -> LlamaConfig:
    ends = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    return LlamaConfig(max_position_embeddings=32_768, tie_word_embeddings=False, **sizes, **ends)  # type: ignore[arg-type]


def shapes(is_tiny: bool) -> dict[str, Shape]:
    """Those measured, by name: of Qwen2.5's 0.5B and 1.5B and of Llama 3.1 8B, or tiny ones of the same names."""
    if is_tiny:
        small = {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
        }
        names = {"0.5B": 1, "1.5B": 2, "8B": 1}
        return {
            name: Shape(name, _llama(vocab_size=2048, num_hidden_layers=layers, **small))
            for name, layers in names.items()
        }
    big = {
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    }
    return {
        "0.5B": Shape("0.5B", _qwen(896, 4864, 24, 14)),
        "1.5B": Shape("1.5B", _qwen(1536, 8960, 28, 12)),
        "8B": Shape("8B", _llama(vocab_size=128_256, num_hidden_layers=32, **big)),
    }


def check_shape(is_tiny: bool) -> Shape:
    """One small enough for float32 comparisons, with heads that share keys."""
    width = 64 if is_tiny else 256
    sizes = {"hidden_size": width, "intermediate_size": 2 * width, "num_key_value_heads": 2}
    layers = 2 if is_tiny else 4
    return Shape("check", _llama(vocab_size=2048, num_hidden_layers=layers, num_attention_heads=4, **sizes))


def drawn_model(shape: Shape, device: torch.device, dtype: torch.dtype, gain: float = 1.0) -> PreTrainedModel:
    """A model of the shape made on the device itself, in evaluation mode, frozen.

    gain: standard deviation of a layer's output for inputs of 1; above 1 attention is far from uniform.
    """
    with torch.device(device), torch.no_grad():
        torch.manual_seed(0)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            shape.config, dtype=dtype, attn_implementation="sdpa"
        )
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                inputs = 1 if isinstance(module, nn.Embedding) else module.in_features
                # drawn in float32, so that they are the same numbers in each type
                drawn = torch.randn(module.weight.shape, dtype=torch.float32)
                module.weight.copy_(drawn.mul_(gain / inputs**0.5))
    return model.eval().requires_grad_(False)


def with_adapter(model: PreTrainedModel, rank: int = 16) -> AdaptedModel:
    """The model with a fresh LoRA adapter on all linear layers, in the model's own dtype as the engine holds it."""
    config = EMBEDDED.model_copy(
        update={"lora": EMBEDDED.lora.model_copy(update={"rank": rank, "alpha": 2 * rank})}
    )
    adapted = add_adapter(model, config, seed=0)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(model.dtype)
    return adapted


def drawn_log(vocabulary: int, users: int, events: int, labels: int = 122) -> DrawnLog:
    """Timelines of users with so many events each, up to 122 names; windows of 32 events at a stride of 16."""
    random = np.random.default_rng(0)
    tokenizer = load_tokenizer(EMBEDDED)
    encoder = PromptEncoder(tokenizer, PromptConfig(max_events=32, stride=16))
    names = [" ".join(pair) for pair in itertools.product(THINGS.split(","), STATES.split(","))][:labels]
    spread = vocabulary // len(tokenizer)
    if spread < 1:
        raise ValueError(f"{len(tokenizer)} tokens of the embedded base do not fit into {vocabulary}")
    rows = users * events
    # Zipf-like: few names make most of the events
    share = 1 / np.arange(1, len(names) + 1)
    behavior = random.choice(len(names), rows, p=share / share.sum()).astype(np.int32)
    clock = [
        f"{day} {hour}" for day in ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun") for hour in range(24)
    ]
    table = pa.table(
        {
            "behavior": [names[index] for index in behavior],
            "before.clock": [clock[index] for index in random.integers(0, len(clock), rows)],
        }
    )
    prompt = encoder.prompt_tokens(names, 32_768, 32)
    lines = _spread(encoder.encode_lines(table), spread)
    user_start = np.repeat(np.arange(users) * events, events)
    position = np.arange(rows) - user_start
    part = TimelinePart(
        Path("drawn"),
        pa.table({}),
        user_start,
        window_starts(user_start, lines.lengths(), Window(32, 16, 4096)),
        lines,
        _spread(encoder.encode_questions(table), spread),
        no_profiles(rows),
        np.zeros(rows, np.int64),
        behavior,
        np.zeros(rows, np.int8),
        position > 0,
        np.zeros(rows, bool),
        np.arange(rows, dtype=np.uint64).repeat(2).view(np.uint8).reshape(rows, 16),
    )
    shared = PromptTokens(
        prompt.instruction_ids * spread,
        prompt.terminator_ids * spread,
        tuple(ids * spread for ids in prompt.label_ids),
        prompt.max_history_tokens,
    )
    return DrawnLog(part, shared)


def _spread(column: Any, spread: int) -> TokenRuns:
    return TokenRuns(column.values.to_numpy() * np.int32(spread), column.offsets.to_numpy().astype(np.int64))
