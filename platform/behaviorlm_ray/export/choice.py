"""Which predictor is served: models, counting and their mixture, each under the rules that validation chooses."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from behaviorlm.baselines import TimelineArrays
from behaviorlm.errors import ConfigError
from behaviorlm.metrics.label_probabilities import normalize_label_scores
from behaviorlm.metrics.score_batches import Arrays, ScoreBatch, keep, rows_per_batch
from behaviorlm.predictor.artifact import (
    CountsPredictor,
    DecisionRule,
    FusedPredictor,
    LogitAdjusted,
    ModelPredictor,
    PlainRule,
    Predictor,
)
from behaviorlm.predictor.counts import Counts, fit_counts, without_rare
from behaviorlm.predictor.parts import mixed
from behaviorlm_ray.evaluation.arms import Rules, choose_on_validation
from behaviorlm_ray.evaluation.predictors import asked_rows, whole_log
from behaviorlm_ray.export.finished_run import FinishedRun
from behaviorlm_ray.preparation.prepared_log import SampleRows, count

COUNTS = "counts"
WITH_COUNTS = "+counts"
WEIGHTS = tuple(step / 20 for step in range(1, 20))
"""Shares of counting that validation chooses from, by likelihood (our choice)."""

Batches = Callable[[], Iterator[ScoreBatch]]


@dataclass(frozen=True)
class Chosen:
    """A predictor with its rule. name: an arm's, `counts`, or an arm's with `+counts`; arm: "" for counting alone.

    objective: the mean of anchor accuracy and tail macro recall on validation; None where there was nothing to count.
    """

    name: str
    arm: str
    predictor: Predictor
    rule: DecisionRule
    objective: float | None

    @property
    def rule_in_words(self) -> str:
        """How it decides."""
        parts = ["plain" if isinstance(self.rule, PlainRule) else f"logit-adjusted, tau {self.rule.tau:g}"]
        if isinstance(self.predictor, FusedPredictor):
            parts.append(f"{self.predictor.counts_weight:.0%} counting")
        return ", ".join(parts)


@dataclass(frozen=True)
class Measured:
    """What may be chosen in a run. minimum: see `without_rare`."""

    run: FinishedRun
    minimum: int

    @cached_property
    def rules(self) -> Rules:
        """How validation decides, as in the run's own comparison."""
        evaluation = self.run.settings.evaluation
        return Rules(
            self.run.log.vocabulary, self.run.log.prompt, evaluation.tau, evaluation.tail_minimum_targets
        )

    @cached_property
    def timelines(self) -> TimelineArrays:
        """The whole log as counting sees it."""
        return self._whole[0]

    @cached_property
    def counts(self) -> tuple[Counts, int, int]:
        """Counting as it is served, and how many pairs of it are kept and dropped."""
        timelines, table = self._whole
        columns = [name for name in table.column_names if name.startswith("before.")]
        return without_rare(fit_counts(timelines, table, columns), self.minimum)

    def names(self) -> list[str]:
        """All that can be asked for."""
        arms = self.run.arms
        return [*arms, COUNTS, *(f"{arm}{WITH_COUNTS}" for arm in arms)]

    def choose(self, name: str | None) -> tuple[Chosen, list[Chosen]]:
        """The predictor of a name, or the best on validation, and all that were compared for it.

        Of equal ones counting comes before a model and a model before a mixture: the simpler one. Raises ConfigError
        for an unknown name, and where validation has nothing to choose by.
        """
        if name is not None:
            chosen = self._named(name)
            return chosen, [chosen]
        found = [self._counting(), *(self._model(arm) for arm in self.run.arms)]
        best_arm = max(found[1:], key=_value).arm
        found.append(self._mixture(best_arm))
        best = max(found, key=_value)
        if best.objective is None:
            raise ConfigError(
                "validation has nothing to choose a predictor by (an anchor target and a tail behavior with targets); "
                f"name one: --model {' | '.join(self.names())}"
            )
        return best, found

    def batches(self, chosen: Chosen, rows: SampleRows, *, validation: bool) -> Batches:
        """Log probabilities of a predictor in batches; rows: all validation samples, or all test samples."""
        if chosen.arm == "":
            return lambda: self._counted(rows)
        scores = self.run.scores(chosen.arm)
        model = scores.validation if validation else scores.test
        if isinstance(chosen.predictor, ModelPredictor):
            return lambda: iter(model())
        asked = asked_rows(self.run.log, rows)

        def both() -> Iterator[ScoreBatch]:
            for batch in model():
                counted = self.counts[0].markov.predict(self._roomy, asked[batch.places])
                parts = normalize_label_scores(batch.label_scores), normalize_label_scores(counted)
                yield ScoreBatch(batch.places, mixed(*parts, chosen.predictor).astype(np.float32))

        return both

    def counted(self, rows: SampleRows) -> NDArray[np.float32]:
        """Log probabilities of chosen samples by counting alone, float32[n, K]."""
        return self.counts[0].markov.predict(self._roomy, asked_rows(self.run.log, rows))

    def _named(self, name: str) -> Chosen:
        if name == COUNTS:
            return self._counting()
        arm = name.removesuffix(WITH_COUNTS)
        if arm not in self.run.arms:
            raise ConfigError(
                f"--model: {self.run.folder} has no {name!r}; there are {', '.join(self.names())}"
            )
        return self._model(arm) if arm == name else self._mixture(arm)

    def _model(self, arm: str) -> Chosen:
        return self._decided(Chosen(arm, arm, ModelPredictor(), PlainRule(), None))

    def _counting(self) -> Chosen:
        return self._decided(Chosen(COUNTS, "", CountsPredictor(), PlainRule(), None))

    def _mixture(self, arm: str) -> Chosen:
        weight = self._best_weight(arm)
        predictor = FusedPredictor(counts_weight=weight)
        return self._decided(Chosen(f"{arm}{WITH_COUNTS}", arm, predictor, PlainRule(), None))

    def _decided(self, chosen: Chosen) -> Chosen:
        """With the rule that validation prefers."""
        targets = self.run.facts.validation
        if not len(targets):
            return chosen
        batches = self.batches(chosen, self.run.samples.validation, validation=True)
        found = choose_on_validation(batches, targets, self.rules)
        plain, adjusted = found.plain.objective, found.chosen.objective
        if adjusted is None or plain is None or adjusted <= plain:
            return Chosen(chosen.name, chosen.arm, chosen.predictor, PlainRule(), plain)
        return Chosen(chosen.name, chosen.arm, chosen.predictor, LogitAdjusted(tau=found.tau), adjusted)

    def _best_weight(self, arm: str) -> float:
        """The share of counting under which the validation targets are most likely; .5 without any."""
        targets, rows = self.run.facts.validation, self.run.samples.validation
        known = targets >= 0
        if not known.any():
            return 0.5
        asked = asked_rows(self.run.log, rows)

        def reduce(batch: ScoreBatch) -> Arrays:
            of_batch = np.maximum(targets[batch.places], 0)
            place = np.arange(len(of_batch))
            model = normalize_label_scores(batch.label_scores)[place, of_batch]
            counted = self.counts[0].markov.predict(self._roomy, asked[batch.places])
            return {
                "model": np.exp(model),
                "counts": np.exp(normalize_label_scores(counted)[place, of_batch]),
            }

        found = keep(self.run.scores(arm).validation(), len(targets), reduce)
        model, counted = found["model"][known], found["counts"][known]
        likelihood = [np.log(weight * counted + (1 - weight) * model).mean() for weight in WEIGHTS]
        return WEIGHTS[int(np.argmax(likelihood))]

    def _counted(self, rows: SampleRows) -> Iterator[ScoreBatch]:
        asked = asked_rows(self.run.log, rows)
        step = rows_per_batch(self.timelines.behaviors)
        for start in range(0, count(rows), step):
            places: NDArray[np.int64] = np.arange(start, min(start + step, count(rows)))
            yield ScoreBatch(places, self.counts[0].markov.predict(self._roomy, asked[places]))

    @cached_property
    def _whole(self) -> tuple[TimelineArrays, pa.Table]:
        return whole_log(self.run.log)

    @cached_property
    def _roomy(self) -> TimelineArrays:
        """With the code for an unknown context, which the counts have room for."""
        return replace(self.timelines, contexts=self.timelines.contexts + 1)


def _value(chosen: Chosen) -> float:
    return -1.0 if chosen.objective is None else chosen.objective
