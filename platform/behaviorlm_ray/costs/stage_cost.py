"""What a stage takes, as told before it runs, and what that comes to on a card or a CPU."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from behaviorlm_ray.costs.cards import Card

MEASURED_SHARES: dict[str, tuple[tuple[float, float], ...]] = {
    "tuning": ((3.58e8, 0.104), (1.31e9, 0.162), (6.98e9, 0.274)),
    "scoring": ((3.58e8, 0.154), (1.31e9, 0.275), (6.98e9, 0.393)),
}
"""Best share of an H200's bfloat16 peak by weights that each token meets (benchmarks/results/nvidia-h200.json, LoRA,
without recomputing; scoring over the trie). Other cards are taken to reach the same."""

RECOMPUTED = 1.5
"""Times the seconds of a step that recomputing activations takes there."""

PREPARE_SECONDS, COUNT_SECONDS = 1.7e-6, 7.5e-6
"""CPU seconds an event: prepared, and evaluated by counting, of 10⁷ events (benchmarks/results/growth.json). Counting
takes .4 of that an event where there are ten times as many."""


@dataclass(frozen=True)
class StageCost:
    """tokens: through the body. operations: floating-point. share: of a card's peak, as measured; 0: no card is used.
    memory: bytes a worker; 0: not reckoned. disk: bytes that stay; scratch: bytes that are there while it runs. cpu:
    seconds of what runs on CPUs whatever the model. told: what else is to be said.
    """

    tokens: float = 0.0
    operations: float = 0.0
    share: float = 0.0
    memory: float = 0.0
    disk: float = 0.0
    scratch: float = 0.0
    cpu: float = 0.0
    told: Sequence[str] = ()

    def __add__(self, other: "StageCost") -> "StageCost":
        return StageCost(
            self.tokens + other.tokens,
            self.operations + other.operations,
            0.0,
            max(self.memory, other.memory),
            self.disk + other.disk,
            max(self.scratch, other.scratch),
            self.cpu + other.cpu,
        )


def measured_share(kind: str, weights: float) -> float:
    """Share of the peak for a body of so many weights: by the logarithm between those measured, else the nearest."""
    known = MEASURED_SHARES[kind]
    for (small, low), (large, high) in pairwise(known):
        if weights <= large:
            place = math.log(max(weights, small) / small) / math.log(large / small)
            return low + place * (high - low)
    return known[-1][1]


def model_hours(cost: StageCost, card: Card | None, gigaflops: float | None) -> float | None:
    """Hours of the model's work on one card, or on a CPU core of so many 10^9 operations a second; 0 where no model
    works; None: the work or the speed is not known.
    """
    if not cost.operations:
        return None if cost.tokens else 0.0
    if card is not None and cost.share:
        return cost.operations / (card.teraflops * 1e12 * cost.share) / 3600
    return None if gigaflops is None else cost.operations / (gigaflops * 1e9) / 3600


def table(
    rows: Sequence[tuple[str, StageCost]], card: Card | None, gigaflops: float | None, price: float | None
) -> list[str]:
    """One line a stage, and the sum."""
    hours = [model_hours(cost, card, gigaflops) for _, cost in rows]
    on = "GPU-h" if card is not None else "CPU-h"
    lines = [["", "tokens", "operations", "a worker", "stays", "meanwhile", on, "other CPU-h"]]
    whole = sum((cost for _, cost in rows), StageCost())
    total = None if None in hours else sum(hour for hour in hours if hour is not None)
    for (name, cost), hour in [*zip(rows, hours, strict=True), (("all", whole), total)]:
        told = [*(_quantity(value, "") for value in (cost.tokens, cost.operations))]
        told += [_quantity(value, "B") for value in (cost.memory, cost.disk, cost.scratch)]
        lines.append([name, *told, "?" if hour is None else _hours(hour), _hours(cost.cpu / 3600)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = [
        "  "
        + line[0].ljust(widths[0])
        + "".join(f"  {cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=True))
        for line in lines
    ]
    if total is not None and price is not None:
        shown.append(f"  {total * price:,.2f} in the currency of price_per_hour ({price:g} an hour)")
    return shown


def _hours(hours: float) -> str:
    return "-" if not hours else f"{hours:,.0f}" if hours >= 100 else f"{hours:.2g}"


def _quantity(value: float, unit: str) -> str:
    if not value:
        return "-"
    step = min(6, max(0, int(math.log10(value) // 3)))
    return f"{value / 1000**step:.3g} {('', *'kMGTPE')[step]}{unit}".strip()
