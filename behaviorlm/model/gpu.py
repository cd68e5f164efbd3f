"""The GPU of this process: that it can be used and a model fits on it is told before anything fails midway."""

import os
import re
from pathlib import Path

import torch

from behaviorlm.errors import ModelError
from behaviorlm.model.base_model import model_without_weights, weights_dtype
from behaviorlm.model.config import ModelConfig

DRIVER = Path("/proc/driver/nvidia/version")
LEAST_FREE_SHARE = 0.05
"""Of a card's memory that must stay free beside the weights (our choice): nothing runs without any."""


def own_gpu() -> torch.device:
    """This process's GPU among those that it sees, made its current one. Raises ModelError where none can be used."""
    try:
        torch.cuda.init()
        count = torch.cuda.device_count()
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            f"no GPU can be used here ({error}). {_versions()}: install a torch that fits the driver, or a newer "
            "driver; or set use_gpu to false"
        ) from error
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % count)
    torch.cuda.set_device(device)
    return device


def gpu_name() -> str:
    """The card of this process with the versions that matter, for a person."""
    return f"{torch.cuda.get_device_name()} ({_versions()})"


def gpu_with_room(config: ModelConfig) -> torch.device:
    """`own_gpu`, which a base fits on. Raises ModelError, before anything is loaded, where there is none or no room."""
    device = own_gpu()
    torch.cuda.empty_cache()  # what an earlier model of this process left
    require_room(config, torch.cuda.get_device_name(device), *torch.cuda.mem_get_info(device))
    return device


def require_room(config: ModelConfig, card: str, free: float, total: float) -> None:
    """Raise ModelError for a base whose weights alone fill a card, of whose `total` bytes `free` are: they are on one
    card whole. Nothing is loaded; a base whose code cannot be laid out without weights passes, and a quantized one.
    """
    network, dtype = model_without_weights(config), weights_dtype(config)
    if network is None or getattr(network.config, "quantization_config", None) is not None:
        return
    needed = sum(each.numel() for each in network.parameters()) * dtype.itemsize
    if needed > free - LEAST_FREE_SHARE * total:
        raise ModelError(
            f"model.base: its weights are {needed / 2**30:.1f} GiB in {str(dtype).removeprefix('torch.')}, and "
            f"{card} has {free / 2**30:.1f} GiB free of {total / 2**30:.1f}. A base must fit on one card whole, for it "
            "is scored there: take a smaller base or larger cards (execution.costs.card names those of the workers)"
        )


def driver_version() -> str | None:
    """Of NVIDIA's driver, as the kernel tells it; None where it does not."""
    try:
        found = re.search(r"Module.*?(\d+\.\d+(\.\d+)?)", DRIVER.read_text(encoding="utf-8"))
    except OSError:
        return None
    return None if found is None else found[1]


def _versions() -> str:
    return f"driver {driver_version() or 'unknown'}, torch {torch.__version__} for CUDA {torch.version.cuda}"
