"""What is exported: the predictor and the rule that the run's comparison recommends, or those that are named."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from behaviorlm.errors import ConfigError
from behaviorlm.predictor.artifact import (
    CountsPredictor,
    FusedPredictor,
    ModelPredictor,
    NaturalPrior,
    Predictor,
)
from behaviorlm.predictor.rare_histories import MINIMUM
from behaviorlm.predictor.rules import DecisionRule, PlainRule, rule_in_words, rule_terms
from behaviorlm.scoring.model_names import (
    COUNTS,
    DECISION_RULES,
    PLAIN,
    WITH_COUNTS,
    arm_of,
    model_name,
    split_model_name,
)
from behaviorlm_ray.evaluation.counted_log import asked_rows, counted_log
from behaviorlm_ray.evaluation.counting import Counting
from behaviorlm_ray.evaluation.predictors import ArmScores, at_natural_prior
from behaviorlm_ray.evaluation.recommendation import Option, best, options
from behaviorlm_ray.evaluation.rule_choice import Rules, choose_rules
from behaviorlm_ray.export.finished_run import FinishedRun
from behaviorlm_ray.preparation.prepared_log import SampleRows

_RULE: TypeAdapter[DecisionRule] = TypeAdapter(DecisionRule)


@dataclass(frozen=True)
class Told:
    """A predictor as people are told of it, with its rule and its value on validation."""

    name: str
    objective: float | None
    in_words: str


@dataclass(frozen=True)
class Chosen:
    """A predictor with its rule. name: an arm's, `counts`, or an arm's with `+counts`; arm: "" for counting alone.

    rule_name: as in results["models"]. objective: the mean of anchor accuracy and tail macro recall on validation; None
    where there was nothing to count.
    """

    name: str
    arm: str
    predictor: Predictor
    rule_name: str
    rule: DecisionRule
    objective: float | None

    @property
    def told(self) -> Told:
        """For people."""
        return Told(self.name, self.objective, in_words(self.rule, self.predictor))


@dataclass(frozen=True)
class Measured:
    """What may be exported of a run. minimum: see `without_rare`."""

    run: FinishedRun
    minimum: int

    @cached_property
    def rules(self) -> Rules:
        """How validation decides, as in the run's own comparison."""
        evaluation = self.run.settings.evaluation
        return Rules(self.run.facts, self.run.log.prompt, evaluation.tau, evaluation.tail_minimum_targets)

    @cached_property
    def counting(self) -> Counting:
        """Counting as it is served."""
        return Counting(counted_log(self.run.log, self.run.samples), self.run.facts, self.minimum)

    def names(self) -> list[str]:
        """All predictors that can be asked for."""
        arms = self.run.arms
        return [*arms, COUNTS, *(f"{arm}{WITH_COUNTS}" for arm in arms)]

    def choose(self, name: str | None) -> Chosen:
        """The predictor and the rule of a name, by validation the rule of a name without one; None: what the run
        recommends. Raises ConfigError for an unknown name, and where the run recommends nothing.
        """
        if name is not None:
            predictor, rule = split_model_name(name)
            if predictor not in self.names() or rule not in DECISION_RULES:
                raise ConfigError(
                    f"--model: {self.run.folder} has no {name!r}; there are {', '.join(self.names())}, and of each "
                    f"+{', +'.join(DECISION_RULES)}"
                )
            return self._decided(predictor, None if name == predictor else rule)
        found = self.run.results["recommended"]
        if found["predictor"] is None:
            raise ConfigError(
                f"the run recommends no predictor: {found['reason']}; name one: --model {' | '.join(self.names())}"
            )
        return self._decided(found["predictor"], found["rule"])

    def compared(self) -> list[Told]:
        """What the run's comparison chose from, each predictor under its best rule, or that which is recommended."""
        told = self.run.results["recommended"]
        every = [Option(**one) for one in told["compared"]]
        found = []
        for name in dict.fromkeys(option.predictor for option in every):
            chosen = best([option for option in every if option.predictor == name])
            if name == told["predictor"]:
                chosen = next(option for option in every if option.model == told["model"])
            rule = self._stored(name)[PLAIN if chosen is None else chosen.rule]
            words = in_words(rule, self._kind(name))
            found.append(Told(name, None if chosen is None else chosen.objective, words))
        return found

    def scores(self, chosen: Chosen) -> ArmScores:
        """Log probabilities of a predictor on the samples of the run, at the natural prior."""
        if chosen.arm == "":
            return self.counting.alone()
        scores = self._of_arm(chosen.arm)
        if isinstance(chosen.predictor, FusedPredictor):
            return self.counting.with_model(scores, chosen.predictor)
        return scores

    def natural_prior(self, chosen: Chosen) -> NaturalPrior | None:
        """What an artifact of few shots brings its probabilities back by."""
        if self.run.log.few_shot.uses_all:
            return None
        model = self.run.facts.to_natural(self.run.scores(chosen.arm).mix) if chosen.arm else None
        counts = None if isinstance(chosen.predictor, ModelPredictor) else self.counting.to_natural
        of_parts = (None if shift is None else shift.tolist() for shift in (model, counts))
        return NaturalPrior(**dict(zip(("model", "counts"), of_parts, strict=True)))

    def _of_arm(self, arm: str) -> ArmScores:
        scores = self.run.scores(arm)
        return at_natural_prior(scores, self.run.facts.to_natural(scores.mix))

    def ranked_by(self, chosen: Chosen, log_probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        """What its rule ranks by, float64[n, K]."""
        is_anchor = self.run.log.vocabulary.is_anchor
        terms = rule_terms(chosen.rule, self.run.facts.prior, is_anchor, np.arange(len(is_anchor)))
        return terms.scores(log_probabilities)

    def counted(self, rows: SampleRows) -> NDArray[np.float32]:
        """Log probabilities of chosen samples by counting alone, at the natural prior; float32[n, K]."""
        return self.counting.said_of(asked_rows(self.run.log, rows))

    def _decided(self, name: str, rule: str | None) -> Chosen:
        """A predictor under a rule; None: the one that validation prefers."""
        predictor, arm = self._kind(name), "" if name == COUNTS else arm_of(name)
        if self._is_known(name):
            rules, objectives = self._stored(name), self.run.details["validation"][name]
        elif len(self.run.facts.validation):  # another mixture than the run's, or other counts
            scores = self.scores(Chosen(name, arm, predictor, PLAIN, PlainRule(), None))
            found = choose_rules(scores, self.rules)
            rules, objectives = dict(found.rules), found.objectives
        else:
            rules, objectives = {PLAIN: PlainRule()}, {PLAIN: None}
        if rule is None:
            preferred = best(options(name, objectives))
            rule = PLAIN if preferred is None else preferred.rule
        if rule not in rules:
            raise ConfigError(
                f"--model: {model_name(name, rule)} is not there: without validation samples no rule is chosen"
            )
        return Chosen(name, arm, predictor, rule, rules[rule], objectives[rule])

    def _is_known(self, name: str) -> bool:
        """Whether the run's comparison chose rules for just this predictor."""
        same_counts = self.minimum == MINIMUM or arm_of(name) == name != COUNTS
        return same_counts and name in self.run.details["rules"]

    def _stored(self, name: str) -> dict[str, DecisionRule]:
        """The rules that the run's comparison chose for a predictor."""
        return {rule: _RULE.validate_python(found) for rule, found in self.run.details["rules"][name].items()}

    def _kind(self, name: str) -> Predictor:
        if name == COUNTS:
            return CountsPredictor()
        arm = arm_of(name)
        if arm == name:
            return ModelPredictor()
        known = self.run.details["mixtures"].get(name) if self._is_known(name) else None
        if known is not None:
            return FusedPredictor.model_validate(known)
        return self.counting.best_mixture(self._of_arm(arm))


def in_words(rule: DecisionRule, predictor: Predictor) -> str:
    """How a predictor decides."""
    parts = [rule_in_words(rule)]
    if isinstance(predictor, FusedPredictor):
        tail = predictor.tail_counts_weight
        of_tail = "" if tail is None else f" among anchors, {tail:.0%} in the tail"
        parts.append(f"{predictor.counts_weight:.0%} counting{of_tail}")
    return ", ".join(parts)
