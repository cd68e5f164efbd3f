"""The guards' table: how much of the gain is left where the base has not read about the world, or cannot know it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from behaviorlm.scoring.model_names import DECISION_RULES, model_name, split_model_name
from behaviorlm_lab.study.comparison import area, endpoint
from behaviorlm_lab.study.intervals import estimate, less, markdown
from behaviorlm_lab.study.settings import MAIN

Record = Mapping[str, Any]
Quantity = Callable[[Record, str], float | None]
"""A number of a model (its name) in a record; None where there is none."""

COMPARED = "one_stage"
NOTE = (
    "Gains in expectation under p*, paired by seed. Where a guard leaves every model without any of the tail, the main "
    "gain less this one is the main gain itself. Each guard has one base for all its seeds. First the main condition, "
    "on the seeds that guards have."
)
WORLD_AND_BASE = ("generator", "opaque", "base", "knowledge", "size")
"""Keys of a condition. One that differs from the main one in none of them only compares other arms: no guard."""


def guards(records: Sequence[Record]) -> list[str]:
    """One row a model of the main condition, on the seeds of the guards, then one a guard and model: gain over
    one-stage tuning under it, and how much larger the main one's gain is.

    In expectation under p*, paired by the seeds that both have. The gain of an adjusted model is over the adjusted
    one-stage model, like with like; that model's own gain, which is balancing and nothing else, is over the plain one.
    The area is of an arm's whole front and stands beside its plain model. Empty without guards.
    """
    main = [record for record in records if record["condition"] == MAIN]
    found = [record for record in records if main and _is_guard(record, main[0])]
    if not found:
        return []
    arms = [
        name
        for name in found[0]["models"]
        if split_model_name(name).predictor in found[0]["optimizer_samples"]
    ]
    seeds = {record["seed"] for record in found}
    rows = [[*_row(name, [one for one in main if one["seed"] in seeds], [])[:-1], ""] for name in arms]
    for condition in dict.fromkeys(record["condition"] for record in found):
        chosen = [record for record in found if record["condition"] == condition]
        rows += [_row(name, chosen, main) for name in chosen[0]["models"] if name in arms]
    header = ["guard", "model", "gain over", "anchor accuracy", "tail macro recall"]
    for quantity in QUANTITIES:
        header += [f"{quantity}: gain", f"{quantity}: the main gain less this one"]
    return [NOTE, "", *markdown([*header, "seeds (in common)"], rows)]


def _row(name: str, chosen: Sequence[Record], main: Sequence[Record]) -> list[str]:
    gained = any(gain(record, name, endpoint) is not None for record in chosen)
    condition = chosen[0]["condition"] if chosen else MAIN
    return [condition, name, compared_with(name) if gained else "", *_cells(name, chosen, main)]


def compared_with(name: str) -> str:
    """The model that a model's gain is over."""
    predictor, rule = split_model_name(name)
    return COMPARED if predictor == COMPARED and rule in DECISION_RULES else model_name(COMPARED, rule)


def gain(record: Record, name: str, quantity: Quantity) -> float | None:
    """How far a model is ahead of the one that it is compared with; None where one of them has no such quantity."""
    base = compared_with(name)
    if name == base or name not in record["models"] or base not in record["models"]:
        return None
    own, other = quantity(record, name), quantity(record, base)
    return None if own is None or other is None else float(own - other)


def _cells(name: str, guard: Sequence[Record], main: Sequence[Record]) -> list[str]:
    of_seed = {record["seed"]: record for record in main}
    common = [record for record in guard if record["seed"] in of_seed]
    level = [
        estimate([_expected(key)(record, name) for record in guard])
        for key in ("anchor_accuracy", "tail_macro_recall")
    ]
    cells = []
    for quantity in QUANTITIES.values():
        own = [gain(record, name, quantity) for record in guard]
        pairs = less(
            [gain(of_seed[record["seed"]], name, quantity) for record in common],
            [gain(record, name, quantity) for record in common],
        )
        cells += [
            estimate(values, sign=True) if any(v is not None for v in values) else ""
            for values in (own, pairs)
        ]
    return [*level, *cells, f"{len(guard)} ({len(common)})"]


def _expected(key: str) -> Quantity:
    def quantity(record: Record, name: str) -> float | None:
        found: float | None = record["models"][name]["expected"][key]
        return found

    return quantity


def _area(record: Record, name: str) -> float | None:
    return area(record, name) if name in record["fronts"] else None


QUANTITIES: dict[str, Quantity] = {
    "tail": _expected("tail_macro_recall"),
    "anchor": _expected("anchor_accuracy"),
    "mean of both": endpoint,
    "area of the front": _area,
}


def _is_guard(record: Record, main: Record) -> bool:
    own, usual = (
        {key: found["made"]["settings"].get(f"condition.{key}") for key in WORLD_AND_BASE}
        for found in (record, main)
    )
    return own != usual
