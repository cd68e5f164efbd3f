"""What the predictions of a cell reach in expectation under p*, with resamples of users.

Where there is no truth, what was drawn stands in its place. The endpoint's mean ("both") is (anchor accuracy + tail
macro recall) / 2, the recall over tail behaviors with at least 10 targets in expectation.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from behaviorlm.files.data_only import data_only
from behaviorlm.scoring.model_names import DECISION_RULES, model_name
from behaviorlm_lab.truth.frontier import MINIMUM_TARGETS, endpoint_frontier
from behaviorlm_lab.truth.oracle import world_oracle
from behaviorlm_lab.world.generator import Floats
from behaviorlm_ray import storage
from behaviorlm_ray.pipeline.evaluate import PREDICTIONS
from behaviorlm_ray.pipeline.predict import evaluated_samples
from behaviorlm_ray.pipeline.prepare import open_log
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.preparation.prepared_log import gather, group_codes
from behaviorlm_ray.stages.finding import StageOutput

RESAMPLES = 400
"""Resamples of users, the same for every predictor of a cell (our choice)."""

Choices = NDArray[np.int64]


@dataclass(frozen=True)
class Endpoint:
    """In expectation; `both` is the mean."""

    anchor: float
    tail: float

    @property
    def both(self) -> float:
        """The mean of the two."""
        return (self.anchor + self.tail) / 2


@dataclass(frozen=True)
class Truth:
    """Of n test samples: p* float64[n, K], the user of each, int[n] from 0; is_anchor bool[K]; seed of resamples."""

    probabilities: Floats
    users: NDArray[np.int64]
    is_anchor: NDArray[np.bool_]
    seed: int

    @cached_property
    def _weights(self) -> Floats:
        """How often each user is drawn: once in the first row, then in each resample; [1 + RESAMPLES, users]."""
        users = int(self.users.max()) + 1
        drawn = np.random.default_rng(self.seed).integers(0, users, (RESAMPLES, users))
        counted = [np.bincount(of, minlength=users) for of in drawn]
        return np.array([np.ones(users), *counted], np.float64)

    @cached_property
    def _targets(self) -> Floats:
        """Expected targets by resample and behavior."""
        of_users = np.zeros((self._weights.shape[1], self.probabilities.shape[1]))
        np.add.at(of_users, self.users, self.probabilities)
        found: Floats = self._weights @ of_users
        return found

    def spread(self, choices: Choices) -> tuple[Endpoint, Floats]:
        """The endpoint of choices int[n], and `both` in each resample, float64[RESAMPLES]."""
        samples = len(choices)
        of_users = np.zeros((self._weights.shape[1], self.probabilities.shape[1]))
        np.add.at(of_users, (self.users, choices), self.probabilities[np.arange(samples), choices])
        hits, targets = self._weights @ of_users, self._targets
        anchor = hits[:, self.is_anchor].sum(axis=1) / targets[:, self.is_anchor].sum(axis=1)
        counted = ~self.is_anchor & (targets[0] >= MINIMUM_TARGETS)
        tail = (hits[:, counted] / np.maximum(targets[:, counted], 1e-12)).mean(axis=1)
        return Endpoint(float(anchor[0]), float(tail[0])), (anchor[1:] + tail[1:]) / 2

    @property
    def best(self) -> Endpoint:
        """The most of `both` that one predictor can have."""
        found = endpoint_frontier(
            self.probabilities,
            self.is_anchor,
            np.full(len(self.probabilities), -1),
            np.array([0.5]),
        )
        return Endpoint(float(found.expected_anchor_accuracy[0]), float(found.expected_tail_macro_recall[0]))


def truth_of(prepared: StageOutput, settings: RunSettings, seed: int) -> Truth:
    """What is to be expected of the test samples of a run: under p*, or as drawn where the run names no world."""
    log = open_log(prepared, settings)
    test = evaluated_samples(log, settings).test
    truth = settings.evaluation.truth
    if truth is None:
        targets = gather(log, test, "behavior")
        probabilities = np.eye(len(log.vocabulary))[targets] * (targets >= 0)[:, None]
    else:
        batches = world_oracle(truth).batches(log, test)
        probabilities = np.concatenate([batch.probabilities for batch in batches])
    _, users = group_codes(log, test)
    return Truth(probabilities, users, log.vocabulary.is_anchor, seed)


def choices_of(prepared: StageOutput, evaluated: StageOutput, settings: RunSettings) -> dict[str, Choices]:
    """What every predictor chose under every decision rule, int[n] in the order of the test samples, by its name."""
    place = {name: number for number, name in enumerate(open_log(prepared, settings).vocabulary.names)}
    columns = [f"chosen_{rule}" for rule in DECISION_RULES]
    path = storage.local_copy(evaluated.folder / PREDICTIONS)
    table = data_only(pq.ParquetFile(path), path).read(columns=["predictor", *columns])
    predictors = table["predictor"].to_numpy(zero_copy_only=False)
    found = {}
    for predictor in dict.fromkeys(predictors):
        rows = table.filter(predictors == predictor)
        for rule, column in zip(DECISION_RULES, columns, strict=True):
            names = rows[column].to_pylist()
            if None not in names:
                found[model_name(predictor, rule)] = np.array([place[name] for name in names], np.int64)
    return found
