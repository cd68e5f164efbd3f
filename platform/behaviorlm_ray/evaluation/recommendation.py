"""Which predictor is recommended, under which rule: what validation prefers of all that can be served."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from behaviorlm.scoring.model_names import DECISION_RULES, model_name

NOTHING_TO_CHOOSE_BY = (
    "validation has nothing to choose by: it lacks an anchor target, or a tail behavior with enough targets "
    "(split.validation, evaluation.tail_minimum_targets)"
)


@dataclass(frozen=True)
class Option:
    """A predictor under a rule. model: its key in results["models"]; objective: on validation, None: nothing counts."""

    predictor: str
    rule: str
    model: str
    objective: float | None


def options(predictor: str, objectives: Mapping[str, float | None]) -> list[Option]:
    """A predictor under each rule that it has, the simplest first; objectives: by rule."""
    return [
        Option(predictor, rule, model_name(predictor, rule), objectives[rule])
        for rule in DECISION_RULES
        if rule in objectives
    ]


def best(found: Sequence[Option]) -> Option | None:
    """The one with the largest objective, of equal ones the first; None where none has any."""
    known = [
        (round(one.objective, 9), one) for one in found if one.objective is not None
    ]  # sums differ by less
    return max(known, key=lambda pair: pair[0])[1] if known else None


def recommended(compared: Sequence[Option]) -> dict[str, Any]:
    """`results["recommended"]`: predictor, rule, model, objective (None where there is nothing to choose by; `reason`
    then says so), and all that were compared, counting before models and these before mixtures.
    """
    winner = best(compared)
    chosen = Option("", "", "", None) if winner is None else winner
    return {
        **{key: value or None for key, value in asdict(chosen).items() if key != "objective"},
        "objective": chosen.objective,
        "reason": None if winner is not None else NOTHING_TO_CHOOSE_BY,
        "compared": [asdict(one) for one in compared],
    }
