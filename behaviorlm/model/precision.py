"""In which numbers a base's weights are held: what `model.dtype: auto` comes to on the hardware at hand."""

from dataclasses import dataclass

import torch

from behaviorlm.model.base_model import load_model_config, weights_dtype
from behaviorlm.model.config import ModelConfig

LEAST_WIDTH = 512
"""Narrower bases stay in float32, whatever the hardware: their products are too small to gain much, and their names
too close to be rounded (our choice; docs/decisions.md has what was measured)."""


@dataclass(frozen=True)
class Precision:
    """dtype: of the weights, "float32" or "bfloat16". stored: that of their files. reason: in words, for a person.

    by_hardware: whether another machine could have chosen otherwise.
    """

    dtype: str
    stored: str
    reason: str
    by_hardware: bool = False

    @property
    def told(self) -> str:
        """What a plan and a run say of it."""
        stored = "" if self.dtype == self.stored else f", stored in {self.stored}"
        return f"weights in {self.dtype}{stored}: {self.reason}"


def choose_precision(config: ModelConfig, use_gpu: bool) -> Precision:
    """What the base is loaded in here. use_gpu: it runs on GPUs, of which this machine need not have one.

    auto: bfloat16 where the hardware multiplies it and the base's hidden states are at least LEAST_WIDTH wide, else
    float32 (our choice). Raises ModelError as `weights_dtype` does.
    """
    stored = _name(weights_dtype(config.model_copy(update={"dtype": "auto"})))
    if config.dtype != "auto":
        return Precision(config.dtype, stored, f"model.dtype is {config.dtype}")
    width = getattr(load_model_config(config).get_text_config(), "hidden_size", 0)
    if width < LEAST_WIDTH:
        return Precision(
            "float32", stored, f"a base {width} wide gains little from bfloat16 (model.dtype: auto)"
        )
    units = bfloat16_units(use_gpu)
    if units is None:
        here = "GPU" if use_gpu else "CPU"
        reason = f"this {here} has no units for bfloat16 (model.dtype: auto)"
        return Precision("float32", stored, reason, by_hardware=True)
    return Precision("bfloat16", stored, f"{units} (model.dtype: auto)", by_hardware=True)


def bfloat16_units(use_gpu: bool) -> str | None:
    """What multiplies bfloat16 here, in words; None where nothing does and it would be slow."""
    if not use_gpu:
        found = torch.cpu.get_capabilities()
        # a matrix unit before a vector one
        names = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16"}
        return next((f"this CPU has {name}" for flag, name in names.items() if found.get(flag)), None)
    if not torch.cuda.is_available():
        return "GPUs of the cluster are taken to have it"  # those since 2020; one that has not says so
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return f"{torch.cuda.get_device_name()} has units for it"
    return None


def slowness(dtype: str, use_gpu: bool) -> str | None:
    """What to say on a machine that is to run weights of this dtype without units for it; None: it has them."""
    if dtype != "bfloat16" or bfloat16_units(use_gpu) is not None:
        return None
    return (
        "this machine has no units for bfloat16, in which the run's weights are held, and is slow at it: give the run "
        "machines of one kind, or set model.dtype to float32"
    )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
