"""GPUs by name: what they compute and hold, from NVIDIA's data sheets and what their driver tells."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """pattern: of what the device calls itself. teraflops: dense bfloat16 peak, 10^12 operations a second; gib: memory
    as its driver tells it.
    """

    name: str
    pattern: str
    teraflops: float
    gib: float


CARDS = (
    Card("B200", r"\bB200\b", 2250.0, 179.0),
    Card("H200", r"\bH200\b", 989.0, 139.8),
    Card("H100 NVL", r"\bH100 NVL\b", 835.0, 93.6),
    Card("H100 PCIe", r"\bH100 PCIe\b", 756.0, 79.6),
    Card("H100", r"\bH100\b", 989.0, 79.6),
    Card("A100 80GB", r"\bA100\b.*80GB", 312.0, 79.2),
    Card("A100 40GB", r"\bA100\b", 312.0, 39.5),
    Card("L40S", r"\bL40S\b", 362.0, 44.5),
    Card("L4", r"\bL4\b", 121.0, 22.0),
    Card("A10G", r"\bA10G\b", 70.0, 22.0),
)
"""The first match of a device's name counts."""


def card_of(device: str) -> Card | None:
    """The card that calls itself so, or has the name; None where it is not known."""
    by_name = (card for card in CARDS if card.name == device)
    return next(by_name, None) or next((card for card in CARDS if re.search(card.pattern, device)), None)


def peak_teraflops(device: str, dtype: str) -> float | None:
    """The device's peak for a dtype in 10^12 operations a second; None where it is not known."""
    if not dtype.startswith("bfloat16"):
        return None  # float32 runs on other units, or not, by a setting
    card = card_of(device)
    return None if card is None else card.teraflops
