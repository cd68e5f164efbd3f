"""What is proposed: one key of the mapping with its value, why, and what else it could be."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Choice:
    """One key of the mapping. reason: in words; others: alternatives, each in words, the likelier first."""

    key: str
    value: Any
    reason: str
    others: tuple[str, ...] = ()
