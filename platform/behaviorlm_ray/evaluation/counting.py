"""Counting as it is served, and its mixture with a model, on the samples that models are measured on."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from behaviorlm.baselines import TimelineArrays
from behaviorlm.metrics.label_probabilities import normalize_label_scores
from behaviorlm.metrics.score_batches import Arrays, ScoreBatch, keep, rows_per_batch
from behaviorlm.predictor.artifact import FusedPredictor
from behaviorlm.predictor.counts import MINIMUM, Counts, fit_counts, without_rare
from behaviorlm.predictor.parts import mixed
from behaviorlm.scoring.decision_rules import log_prior
from behaviorlm_ray.evaluation.predictors import (
    ArmScores,
    Predictor,
    asked_rows,
    at_natural_prior,
    counted_mix,
    to_natural,
    whole_log,
)
from behaviorlm_ray.evaluation.samples import EvaluatedSamples
from behaviorlm_ray.preparation.prepared_log import PreparedLog, SampleRows, gather

WEIGHTS = tuple(step / 20 for step in range(20))
"""Shares of counting that validation chooses from for each group, by likelihood (our choice)."""


@dataclass(frozen=True)
class Counting:
    """Back-off counting over the last three behaviors and the context, without what few events stand behind.

    minimum: see `without_rare`.
    """

    log: PreparedLog
    samples: EvaluatedSamples
    minimum: int = MINIMUM

    @cached_property
    def counts(self) -> tuple[Counts, int, int]:
        """Counting itself, and how many pairs of it are kept and dropped."""
        timelines, table = self._whole
        columns = [name for name in table.column_names if name.startswith("before.")]
        return without_rare(fit_counts(timelines, table, columns), self.minimum)

    def alone(self) -> ArmScores:
        """What it says itself, at the natural prior."""
        found = ArmScores(self._counted(self.samples.validation), self._counted(self.samples.test))
        return at_natural_prior(found, self.to_natural)

    @cached_property
    def to_natural(self) -> NDArray[np.float64] | None:
        """See there; float64[K]."""
        return to_natural(self.log, counted_mix(self._whole[0]))

    def with_model(self, scores: ArmScores, predictor: FusedPredictor) -> ArmScores:
        """What a linear mixture with a model says. Its mix is the same mixture of both mixes."""
        weights, mix = predictor.weights(self.log.vocabulary.is_anchor), scores.mix
        if mix is not None:
            mix = mixed(mix[None, :], log_prior(self.log.vocabulary.counts)[None, :], weights)[0]
        return ArmScores(
            self._both(scores.validation, self.samples.validation, weights),
            self._both(scores.test, self.samples.test, weights),
            mix=mix,
        )

    def best_mixture(self, scores: ArmScores, weights: NDArray[np.float64]) -> FusedPredictor:
        """The shares of counting under which the validation targets are most likely; .5 without any.

        weights: how many samples each stands for, float64[v].
        """
        is_anchor = self.log.vocabulary.is_anchor
        targets = gather(self.log, self.samples.validation, "behavior")
        asked = asked_rows(self.log, self.samples.validation)
        known = targets >= 0
        if not known.any():
            return FusedPredictor(counts_weight=0.5)

        def reduce(batch: ScoreBatch) -> Arrays:
            of_batch = np.maximum(targets[batch.places], 0)
            place = np.arange(len(of_batch))
            both = [np.exp(log_probabilities) for log_probabilities in self._both_of(batch, asked)]
            return {
                "target": np.stack([of[place, of_batch] for of in both], axis=1),
                "anchors": np.stack([of[:, is_anchor].sum(axis=1) for of in both], axis=1),
            }

        found = keep(scores.validation(), len(targets), reduce)
        target, anchors = found["target"][known], found["anchors"][known]
        of_anchor = is_anchor[targets[known]]

        def likelihood(pair: tuple[float, float]) -> float:
            """How likely the targets are with the shares of counting of anchors and of the tail."""
            parts = np.array([[1 - share, share] for share in pair])
            said = np.where(of_anchor, target @ parts[0], target @ parts[1])
            whole = anchors @ parts[0] + (1 - anchors) @ parts[1]
            with np.errstate(divide="ignore"):
                return float(np.average(np.log(said / whole), weights=weights[known]))

        anchor, tail = max(((one, other) for one in WEIGHTS for other in WEIGHTS), key=likelihood)
        return FusedPredictor(counts_weight=anchor, tail_counts_weight=tail)

    def said_of(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Its own log probabilities float32[n, K] of rows of the whole log, `asked_rows`."""
        return self.counts[0].markov.predict(self._roomy, rows)

    def _both_of(
        self, batch: ScoreBatch, asked: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Log probabilities of the model's batch and of counting, float64[b, K], both at the natural prior."""
        counted = self.said_of(asked[batch.places])
        shifted = counted if self.to_natural is None else counted + self.to_natural
        return normalize_label_scores(batch.label_scores), normalize_label_scores(shifted)

    def _counted(self, rows: SampleRows) -> Predictor:
        asked = asked_rows(self.log, rows)
        step = rows_per_batch(len(self.log.vocabulary))

        def batches() -> Iterator[ScoreBatch]:
            for start in range(0, len(asked), step):
                places: NDArray[np.int64] = np.arange(start, min(start + step, len(asked)))
                yield ScoreBatch(places, self.said_of(asked[places]))

        return batches

    def _both(self, model: Predictor, rows: SampleRows, weights: NDArray[np.float64]) -> Predictor:
        asked = asked_rows(self.log, rows)

        def batches() -> Iterator[ScoreBatch]:
            for batch in model():
                yield ScoreBatch(
                    batch.places, mixed(*self._both_of(batch, asked), weights).astype(np.float32)
                )

        return batches

    @cached_property
    def _whole(self) -> tuple[TimelineArrays, pa.Table]:
        return whole_log(self.log)

    @cached_property
    def _roomy(self) -> TimelineArrays:
        """With the code for an unknown context, which the counts have room for."""
        timelines = self._whole[0]
        return replace(timelines, contexts=timelines.contexts + 1)
