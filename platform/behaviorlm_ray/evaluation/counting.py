"""Counting on the samples that models are measured on: baselines, as it is served, and its mixture with a model."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from behaviorlm.baselines import BASELINES, WITH_CONTEXT, fit_baselines
from behaviorlm.baselines.habits import Habits, counted_at, fit_habits
from behaviorlm.baselines.markov import Markov
from behaviorlm.baselines.timelines import Baseline, TimelineArrays
from behaviorlm.metrics.label_probabilities import normalize_label_scores
from behaviorlm.metrics.score_batches import Arrays, ScoreBatch, keep, rows_per_batch
from behaviorlm.predictor.artifact import FusedPredictor
from behaviorlm.predictor.counts import Counts, fit_counts
from behaviorlm.predictor.parts import mixed
from behaviorlm.predictor.rare_histories import MINIMUM, without_rare
from behaviorlm_ray.evaluation.counted_log import CountedLog, Int64
from behaviorlm_ray.evaluation.predictors import ArmScores, Predictor, ScoresAt, at_natural_prior
from behaviorlm_ray.evaluation.samples import SampleFacts

WEIGHTS = tuple(step / 20 for step in range(20))
"""Shares of counting that validation chooses from for each group, by likelihood (our choice)."""


@dataclass(frozen=True)
class Counting:
    """Back-off counting over the last three behaviors and the context, without what few events stand behind, and each
    user's own habits on top of it.

    minimum: see `without_rare`.
    """

    log: CountedLog
    facts: SampleFacts
    minimum: int = MINIMUM

    @cached_property
    def counts(self) -> tuple[Counts, int, int]:
        """Counting itself, and how many pairs of it are kept and dropped."""
        fitted = self.fitted.get(WITH_CONTEXT, self.fitted["markov_order_3"])
        assert isinstance(fitted, Markov)
        return without_rare(fit_counts(self.log.timelines, self.log.columns, fitted), self.minimum)

    @cached_property
    def fitted(self) -> dict[str, Baseline]:
        """Every counting baseline; what is served is the longest of them."""
        return fit_baselines(self.log.timelines)

    def baselines(self) -> dict[str, ArmScores]:
        """Every counting baseline by name.

        Baselines see what the models see: the events before the sample and its `context_before`.
        """
        found = {}
        for name, baseline in self.fitted.items():
            of = self._scores(partial(baseline.predict, self.log.timelines))
            found[name] = at_natural_prior(of, None if BASELINES[name].counts_history else self.to_natural)
        return found

    def alone(self) -> ArmScores:
        """What it says itself, at the natural prior: a user's own past has no other mix to be ranked by."""
        return self._scores(self.said_of)

    @cached_property
    def habits(self) -> Habits | None:
        """How far a user's own past counts: what makes the validation targets most likely, each as often as it stands
        for samples. None without any.
        """
        known = np.flatnonzero(self.facts.validation >= 0)
        rows, targets = self.log.validation[known], self.facts.validation[known]
        step = rows_per_batch(len(self.facts.vocabulary))
        found = []
        for start in range(0, len(rows), step):
            asked, of_batch = rows[start : start + step], targets[start : start + step]
            pasts = counted_at(self.log.timelines, asked)
            place = np.arange(len(asked))
            of_target = [of[place, of_batch] for of in (np.exp(self._anybody(asked)), *pasts)]
            found.append(np.stack([*of_target, *(past.sum(axis=1) for past in pasts)]))
        if not found:
            return None
        anybody, own, followed, seen, times = np.concatenate(found, axis=1)
        return fit_habits(anybody, own, followed, seen, times, self.facts.validation_weights[known])

    @cached_property
    def to_natural(self) -> NDArray[np.float64] | None:
        """See there; float64[K]."""
        return self.facts.to_natural(self.log.mix)

    def with_model(self, scores: ArmScores, predictor: FusedPredictor) -> ArmScores:
        """What a linear mixture with a model says. Its mix is the same mixture of both mixes."""
        weights, mix = predictor.weights(self.facts.vocabulary.is_anchor), scores.mix
        if mix is not None:
            mix = mixed(mix[None, :], self.facts.prior[None, :], weights)[0]
        return ArmScores(
            self._both(scores.validation, self.log.validation, weights),
            self._both(scores.test, self.log.test, weights),
            mix=mix,
        )

    def best_mixture(self, scores: ArmScores) -> FusedPredictor:
        """The shares of counting under which the validation targets are most likely, each as often as it stands for
        samples; .5 without any.
        """
        is_anchor, targets = self.facts.vocabulary.is_anchor, self.facts.validation
        known = targets >= 0
        if not known.any():
            return FusedPredictor(counts_weight=0.5)

        def reduce(batch: ScoreBatch) -> Arrays:
            of_batch = np.maximum(targets[batch.places], 0)
            place = np.arange(len(of_batch))
            both = [np.exp(of) for of in self._both_of(batch, self.log.validation)]
            return {
                "target": np.stack([of[place, of_batch] for of in both], axis=1),
                "anchors": np.stack([of[:, is_anchor].sum(axis=1) for of in both], axis=1),
            }

        found = keep(scores.validation(), len(targets), reduce)
        target, anchors = found["target"][known], found["anchors"][known]
        of_anchor, weights = is_anchor[targets[known]], self.facts.validation_weights[known]

        def likelihood(pair: tuple[float, float]) -> float:
            """How likely the targets are with the shares of counting of anchors and of the tail."""
            parts = np.array([[1 - share, share] for share in pair])
            said = np.where(of_anchor, target @ parts[0], target @ parts[1])
            whole = anchors @ parts[0] + (1 - anchors) @ parts[1]
            with np.errstate(divide="ignore"):
                return float(np.average(np.log(said / whole), weights=weights))

        anchor, tail = max(((one, other) for one in WEIGHTS for other in WEIGHTS), key=likelihood)
        return FusedPredictor(counts_weight=anchor, tail_counts_weight=tail)

    def said_of(self, rows: Int64) -> NDArray[np.float32]:
        """Its own log probabilities at the natural prior, float32[n, K], of rows of the log, `asked_rows`."""
        said = self._anybody(rows)
        if self.habits is not None:
            said = self.habits.log_probabilities(said, *counted_at(self.log.timelines, rows))
        return said.astype(np.float32)

    def _anybody(self, rows: Int64) -> NDArray[np.float64]:
        """What is likely of anybody with these last behaviors and this context: log probabilities, float64[n, K]."""
        said = self.counts[0].markov.predict(self._roomy, rows)
        return normalize_label_scores(said if self.to_natural is None else said + self.to_natural)

    def _scores(self, said_of: ScoresAt) -> ArmScores:
        """What is said of the samples; said_of: of rows of the log."""
        step = rows_per_batch(len(self.facts.vocabulary))

        def batches(asked: Int64) -> Iterator[ScoreBatch]:
            for start in range(0, len(asked), step):
                places: Int64 = np.arange(start, min(start + step, len(asked)))
                yield ScoreBatch(places, said_of(asked[places]))

        return ArmScores(partial(batches, self.log.validation), partial(batches, self.log.test))

    def _both_of(self, batch: ScoreBatch, asked: Int64) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Log probabilities of the model's batch and of counting, float64[b, K], both at the natural prior."""
        counted = self.said_of(asked[batch.places])
        return normalize_label_scores(batch.label_scores), normalize_label_scores(counted)

    def _both(self, model: Predictor, asked: Int64, weights: NDArray[np.float64]) -> Predictor:
        def batches() -> Iterator[ScoreBatch]:
            for batch in model():
                said = mixed(*self._both_of(batch, asked), weights)
                yield ScoreBatch(batch.places, said.astype(np.float32))

        return batches

    @cached_property
    def _roomy(self) -> TimelineArrays:
        """With the code for an unknown context, which the counts have room for."""
        return replace(self.log.timelines, contexts=self.log.timelines.contexts + 1)
