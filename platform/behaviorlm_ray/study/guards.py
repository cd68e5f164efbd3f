"""The guards' table: how much of the gain is left where the base has not read about the world, or cannot know it."""

from collections.abc import Mapping, Sequence
from typing import Any

from behaviorlm_ray.study.intervals import estimate, less, markdown

Record = Mapping[str, Any]

MAIN = "main"
COMPARED = "one_stage"
WORLD_AND_BASE = ("generator", "opaque", "base", "knowledge", "size")
"""Keys of a condition. One that differs from the main one in none of them only compares other arms: no guard."""
ENDPOINT = (("anchor", "anchor_accuracy"), ("tail", "tail_macro_recall"))


def guards(records: Sequence[Record]) -> list[str]:
    """One row a guard and model: gain over one-stage tuning under it, and how much larger the main one's gain is.

    In expectation under p*, paired by the seeds that both have. The gain of an adjusted model is over the adjusted
    one-stage model, like with like. Empty without guards.
    """
    main = [record for record in records if record["condition"] == MAIN]
    rows = []
    for condition in dict.fromkeys(record["condition"] for record in records):
        chosen = [record for record in records if record["condition"] == condition]
        if not main or not _is_guard(chosen[0], main[0]):
            continue
        for name in chosen[0]["models"]:
            if name.partition("+")[0] not in chosen[0]["optimizer_samples"]:
                continue  # baselines know nothing of the base
            rows.append([condition, name, *_cells(name, chosen, main)])
    if not rows:
        return []
    header = ["guard", "model", "anchor accuracy", "tail macro recall"]
    for group in ("tail", "anchor"):
        header += [f"{group}: gain over one-stage", f"{group}: the main gain less this one"]
    return markdown([*header, "seeds (in common)"], rows)


def gain(record: Record, name: str, key: str) -> float | None:
    """How far a model is ahead of one-stage tuning of the same form; None where that, or the model, is not there."""
    form = name.partition("+")[2]
    base = f"{COMPARED}+{form}" if form else COMPARED
    models = record["models"]
    if name not in models or base not in models or name == base:
        return None
    own, other = models[name]["expected"][key], models[base]["expected"][key]
    return None if own is None or other is None else float(own - other)


def _cells(name: str, guard: Sequence[Record], main: Sequence[Record]) -> list[str]:
    of_seed = {record["seed"]: record for record in main}
    common = [record for record in guard if record["seed"] in of_seed]
    level = [estimate([record["models"][name]["expected"][key] for record in guard]) for _, key in ENDPOINT]
    cells = []
    for _, key in reversed(ENDPOINT):
        own = [gain(record, name, key) for record in guard]
        pairs = less(
            [gain(of_seed[record["seed"]], name, key) for record in common],
            [gain(record, name, key) for record in common],
        )
        cells += [
            estimate(values, sign=True) if any(v is not None for v in values) else ""
            for values in (own, pairs)
        ]
    return [*level, *cells, f"{len(guard)} ({len(common)})"]


def _is_guard(record: Record, main: Record) -> bool:
    own, usual = (
        {key: found["made"]["settings"].get(f"condition.{key}") for key in WORLD_AND_BASE}
        for found in (record, main)
    )
    return own != usual
