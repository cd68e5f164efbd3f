"""Which predictor is recommended, under which rule: what validation prefers, as far as it is sure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from behaviorlm.scoring.model_names import DECISION_RULES, WITHOUT_NUMBERS, model_name

NOTHING_TO_CHOOSE_BY = (
    "validation has nothing to choose by: it lacks an anchor target, or a tail behavior with enough targets "
    "(split.validation, evaluation.tail_minimum_targets)"
)


@dataclass(frozen=True)
class Option:
    """A predictor under a rule. model: its key in results["models"]; objective: on validation, None: nothing counts.

    gain: objective less that of the safe choice, {"value", "low", "high"}, the interval over groups of validation
    samples; None: not known, as in results of earlier versions.
    """

    predictor: str
    rule: str
    model: str
    objective: float | None
    gain: Mapping[str, float | None] | None = None


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


def safe_choice(compared: Sequence[Option]) -> Option | None:
    """The last predictor, the mixture where there is one, under the better rule of those without numbers (our choice):
    its parts are weighed by likelihood, and the rule has learned nothing of the few tail targets that judge it. None
    where validation has nothing to choose by.
    """
    return best(
        [one for one in compared if one.predictor == compared[-1].predictor and one.rule in WITHOUT_NUMBERS]
    )


def chosen_of(compared: Sequence[Option]) -> Option | None:
    """What validation is sure to prefer to the safe choice, of these the best; else the safe choice."""
    sure = [one for one in compared if one.gain is not None and (one.gain["low"] or 0.0) > 0]
    return best(sure) or safe_choice(compared)


def recommended(compared: Sequence[Option]) -> dict[str, Any]:
    """`results["recommended"]`: predictor, rule, model, objective, gain (None where there is nothing to choose by), the
    reason in words, and all that were compared, counting before models and these before mixtures.
    """
    winner, safe = chosen_of(compared), safe_choice(compared)
    shown = Option("", "", "", None) if winner is None else winner
    return {
        **{key: value or None for key, value in asdict(shown).items() if key != "objective"},
        "objective": shown.objective,
        "reason": NOTHING_TO_CHOOSE_BY if winner is None or safe is None else _reason(winner, safe, compared),
        "compared": [asdict(one) for one in compared],
    }


def _reason(winner: Option, safe: Option, compared: Sequence[Option]) -> str:
    if winner != safe:
        return f"validation is sure that it is ahead of {safe.model}, the safe choice: {_in_words(winner)}"
    first = best(compared)
    if first is None or first == safe:
        return "it is the safe choice, and nothing is ahead of it on validation"
    ahead = f"{first.model} is, by {_in_words(first)}"
    return f"it is the safe choice, and nothing is surely ahead of it on validation: {ahead}"


def _in_words(option: Option) -> str:
    gain = option.gain or {}
    value, low, high = (gain.get(key) for key in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return "how far is not known"
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"
