"""Each predictor once, under the rule that validation chose for it, by the endpoint; and who is set apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from behaviorlm.scoring.model_names import (
    ADJUSTED,
    BAYES,
    COUNTS,
    FITTED,
    PER_TOKEN,
    PLAIN,
    PMI,
    arm_of,
    model_name,
    split_model_name,
)
from behaviorlm_ray.evaluation.comparison import PRIMARY
from behaviorlm_ray.report.content import Interval, ReportData

Kind = Literal["baseline", "untuned", "tuned", "opponent"]
RULES = {
    PLAIN: "",
    ADJUSTED: "logit adjustment",
    BAYES: "Bayes rule of the endpoint",
    FITTED: "rule fitted on validation",
    PMI: "minus the score without history",
    PER_TOKEN: "mean per token",
}
"""What a rule is called."""
MOST_FREQUENT = "most_frequent"


@dataclass(frozen=True)
class Shown:
    """A predictor under one rule. model: its key in the results; objective: on validation, None: not chosen by it."""

    predictor: str
    rule: str
    model: str
    kind: Kind
    description: str
    objective: float | None
    anchor: Interval
    tail: Interval
    accuracy: Interval

    @property
    def mean(self) -> float | None:
        """The endpoint in one number: the mean of its two."""
        if self.anchor.value is None or self.tail.value is None:
            return None
        return (self.anchor.value + self.tail.value) / 2


@dataclass(frozen=True)
class Forms:
    """best: each predictor once, the best endpoint first. others: its other forms, in the order of the results.

    recommended: what to use, None where validation has nothing to choose by. counting: the best counting beside it, and
    whether validation chose that, too; None without one.
    """

    best: list[Shown]
    others: list[Shown]
    recommended: Shown | None
    counting: Shown | None
    counting_by_validation: bool

    @property
    def rival(self) -> Shown | None:
        """Whom the recommended is held against: counting; where that is recommended, the model alone that validation
        prefers.
        """
        if self.recommended is None or self.recommended.kind != "baseline":
            return self.counting
        own = [shown for shown in self.best if shown.kind not in ("baseline", "opponent")]
        models = [shown for shown in own if not is_mixture(shown)]
        return _preferred(models) or next(iter(models), None)

    @property
    def opponent(self) -> Shown | None:
        """The opponent that validation prefers; where it was not asked, the best on test."""
        opponents = [shown for shown in self.best if shown.kind == "opponent"]
        return _preferred(opponents) or next(iter(opponents), None)

    @property
    def set_apart(self) -> list[Shown]:
        """Those that plots draw: the recommended, the best counting, the best other model, and the most frequent."""
        models = [shown for shown in self.best if shown.kind != "baseline"]
        frequent = [shown for shown in self.best if shown.predictor == MOST_FREQUENT]
        wanted = [self.recommended, self.rival, *models[:2], *frequent]
        return list({shown.model: shown for shown in wanted if shown is not None}.values())[:4]


def is_mixture(shown: Shown) -> bool:
    """Whether a model is mixed with counting."""
    return arm_of(shown.predictor) != shown.predictor


def forms(data: ReportData) -> Forms:
    """Read from the results: what validation compared is chosen by it, anything else is shown plain."""
    objectives = _objectives(data)
    every = [_shown(data, name, objectives.get(name)) for name in data.results.models]
    by_predictor: dict[str, list[Shown]] = {}
    for shown in every:
        by_predictor.setdefault(shown.predictor, []).append(shown)
    recommended = _recommended(data, every)
    best = [_chosen(of_one, recommended) for of_one in by_predictor.values()]
    # by the endpoint; without one last, in the order of the results
    best.sort(key=lambda shown: -1.0 if shown.mean is None else shown.mean, reverse=True)
    chosen = {shown.model for shown in best}
    counting, by_validation = _counting(best)
    return Forms(
        best, [shown for shown in every if shown.model not in chosen], recommended, counting, by_validation
    )


def _objectives(data: ReportData) -> dict[str, float]:
    """The objective on validation of each model that has one, by its name in the results."""
    found: dict[str, float] = {}
    for arm, rules in data.objectives.items():
        for rule, value in rules.items():
            if value is not None:
                found[model_name(arm, rule)] = value
    if data.results.recommended is not None:
        for option in data.results.recommended.compared:
            if option.model is not None and option.objective is not None:
                found[option.model] = option.objective
    return found


def _shown(data: ReportData, model: str, objective: float | None) -> Shown:
    predictor, rule = split_model_name(model)
    note = data.models.get(model)
    own = data.models.get(predictor)
    is_counting = predictor == COUNTS
    kind: Kind = note.kind if note is not None else "baseline" if is_counting else "tuned"
    intervals = [_interval(data, model, *of) for of in (*PRIMARY, ("all", "accuracy"))]
    description = own.description if own is not None else "" if note is None else note.description
    return Shown(predictor, rule, model, kind, description, objective, *intervals)


def _interval(data: ReportData, model: str, group: str, metric: str) -> Interval:
    return data.results.models[model].get(group, {}).get(metric, Interval())


def _chosen(of_one: list[Shown], recommended: Shown | None) -> Shown:
    """Of a predictor's forms the recommended one, or that which validation prefers; where it says nothing the plain
    one, or the first.
    """
    if recommended in of_one:
        return recommended
    plain = next((shown for shown in of_one if shown.rule == PLAIN), of_one[0])
    return _preferred(of_one) or plain


def _preferred(among: Sequence[Shown]) -> Shown | None:
    """The first of those with the largest objective, as `recommendation.best` has it; None where none has any."""
    known = [(round(shown.objective, 9), shown) for shown in among if shown.objective is not None]
    return max(known, key=lambda pair: pair[0])[1] if known else None


def _recommended(data: ReportData, every: list[Shown]) -> Shown | None:
    told: Mapping[str, Shown] = {shown.model: shown for shown in every}
    if data.results.recommended is not None:
        return told.get(data.results.recommended.model or "")
    return _preferred(every)


def _counting(best: list[Shown]) -> tuple[Shown | None, bool]:
    """The best counting: by validation where it was asked, else by the test samples, which favors it."""
    counting = [shown for shown in best if shown.kind == "baseline"]
    if asked := _preferred(counting):
        return asked, True
    known = [shown for shown in counting if shown.mean is not None]
    return (known[0], False) if known else (None, False)
