"""Records of cells that never ran."""

from typing import Any

from behaviorlm_lab.study.cells import Cell
from behaviorlm_lab.study.roles import COUNTING, OF_ARMS, RECOMMENDED, SINGLE

MODELS = {
    "untuned": 0.2,
    "at_once": 0.3,
    "at_once+adjusted": 0.35,
    "a_then_b": 0.34,
    "a_then_b+adjusted": 0.36,
    "a_then_b+counts": 0.37,
    "counts": 0.33,
}
RULES = ("plain", "bayes", "adjusted", "fitted")


def made_record(cell: Cell, both: dict[str, float] | None = None, shift: float = 0.0) -> dict[str, Any]:
    """both: of the roles that are not at .3; shift: added to every resample."""

    def model(value: float) -> dict[str, Any]:
        parts = {"anchor": value, "tail": value, "both": value, "validation": value}
        return {**parts, "ahead": [value - 0.35, value - 0.36, value - 0.34]}

    names = {f"{name.partition('+adjusted')[0]}{rule}": 0.1 for name in MODELS for rule in ("", "+bayes")}
    names |= {
        f"{name.partition('+adjusted')[0]}{rule}": 0.1 for name in MODELS for rule in ("+adjusted", "+fitted")
    }
    of_roles = dict.fromkeys([*OF_ARMS, RECOMMENDED, SINGLE, COUNTING], 0.3) | (both or {})
    return {
        "study": "made",
        "k": cell.k,
        "knowledge": cell.knowledge,
        "seed": cell.seed,
        "made": {"study": {"users": 600}, "settings": {"b_tuning.max_steps": 70}, "base": "the shipped one"},
        "samples": {"few_shot": None},
        "best": {"both": 0.5},
        "reference": "one stage, adjusted",
        "models": {name: model(value) for name, value in (names | MODELS).items()},
        "roles": {
            role: {"model": "at_once", "both": value, "resamples": [value + shift, value + shift + 0.01]}
            for role, value in of_roles.items()
        },
    }
