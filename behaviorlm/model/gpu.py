"""The GPU of this process: that it can be used and a model fits on it is told before anything fails midway."""

import os
import re
from pathlib import Path

import torch
from torch import nn

from behaviorlm.errors import ModelError

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


def require_room(model: nn.Module, device: torch.device) -> None:
    """Raise ModelError for a model whose weights alone fill the card: they are loaded on one card whole."""
    needed = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    free, total = torch.cuda.mem_get_info(device)
    if needed > free - LEAST_FREE_SHARE * total:
        raise ModelError(
            f"model.base: its weights are {needed / 2**30:.0f} GiB in {next(model.parameters()).dtype}, and "
            f"{torch.cuda.get_device_name(device)} has {free / 2**30:.0f} GiB free of {total / 2**30:.0f}. A base must "
            "fit on one card whole: take a smaller base or larger cards"
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
