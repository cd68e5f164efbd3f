"""The language model, seen from outside: loading the base, adapting it, saving, loading and exporting."""

from behaviorlm.adapters import add_adapter, export_merged, load_trained, save_trained, trainable_parameters
from behaviorlm.base_model import (
    LoraSettings,
    ModelConfig,
    load_model,
    load_tokenizer,
    max_positions,
    model_fingerprint,
)

__all__ = [
    "LoraSettings",
    "ModelConfig",
    "add_adapter",
    "export_merged",
    "load_model",
    "load_tokenizer",
    "load_trained",
    "max_positions",
    "model_fingerprint",
    "save_trained",
    "trainable_parameters",
]
