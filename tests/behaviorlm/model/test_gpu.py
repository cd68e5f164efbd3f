"""What is said of GPUs: a driver's version, and a machine without one."""

from pathlib import Path

import pytest
import torch

from behaviorlm.errors import ModelError
from behaviorlm.model import gpu


def test_the_driver_is_named_as_the_kernel_tells_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "version"
    monkeypatch.setattr(gpu, "DRIVER", told)
    assert gpu.driver_version() is None
    for text, version in {
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19\nGCC version: 12.3": "535.104.05",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release": "580.95.05",
    }.items():
        told.write_text(text, encoding="utf-8")
        assert gpu.driver_version() == version


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_machine_whose_gpu_cannot_be_used_says_why_and_what_to_do() -> None:
    with pytest.raises(
        ModelError, match=r"no GPU can be used here \(.+\)\. driver .*torch .*set use_gpu to false"
    ):
        gpu.own_gpu()
