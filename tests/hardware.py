"""CPUs of another kind than that of this machine."""

import pytest
import torch


def cpu_with(monkeypatch: pytest.MonkeyPatch, *flags: str) -> None:
    """Let PyTorch say that this CPU has these instructions, such as amx_bf16 or avx512_bf16, and no others."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(flags, True))
