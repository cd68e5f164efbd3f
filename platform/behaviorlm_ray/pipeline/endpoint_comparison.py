"""Chat models behind endpoints among the predictors that are compared, on all of the samples or on fewer.

One that was asked about all samples is a predictor like others. One that was asked about fewer is compared apart, with
every other predictor measured anew on its samples: nothing is compared across different samples.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from behaviorlm.scoring.model_names import split_model_name
from behaviorlm_ray import storage
from behaviorlm_ray.evaluation.comparison import Comparison
from behaviorlm_ray.evaluation.predictors import ArmScores
from behaviorlm_ray.evaluation.samples import EvaluatedSamples
from behaviorlm_ray.pipeline.ask import HEARD, ask, asked_of
from behaviorlm_ray.pipeline.predict import SCORES
from behaviorlm_ray.pipeline.run import Run
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.preparation.prepared_log import PreparedLog, count, union_rows
from behaviorlm_ray.scoring.score_files import open_scores
from behaviorlm_ray.stages.finding import StageOutput
from behaviorlm_ray.stages.stage import Made, Stage

ENDPOINTS = "endpoints"
"""In results: {endpoint: what its answers were like and, with fewer samples, the comparison on them}."""
_CALIBRATION = "expected_calibration_error"


def endpoints_of(run: Run) -> dict[str, Stage]:
    """What each endpoint says, by the name of the input."""
    return {endpoint_input(name): ask(run, name) for name in run.settings.evaluation.endpoints}


def endpoint_input(name: str) -> str:
    """What an endpoint is called among the inputs of `evaluate`."""
    return f"endpoint.{name}"


class AskedEndpoints:
    """The endpoints of a run, asked. Without any nothing is read or told."""

    def __init__(self, log: PreparedLog, settings: RunSettings, made: Made, every: EvaluatedSamples) -> None:
        self._log, self._made, self._every = log, made, every
        self._endpoints = settings.evaluation.endpoints
        self._samples = {name: asked_of(log, settings, name) for name in self._endpoints}

    @cached_property
    def of_all_samples(self) -> dict[str, ArmScores]:
        """Those that were asked about all samples, by name."""
        return {name: self._scores(name) for name in self._endpoints if self._is_whole(name)}

    def settle(self, comparison: Comparison) -> None:
        """Take out of a comparison what rankings do not tell: how well probabilities are calibrated."""
        ranked = {name for name, of in self._endpoints.items() if of.answer == "ranking"}
        for name, groups in comparison.results["models"].items():
            if split_model_name(name).predictor in ranked:
                comparison.details["reliability"].pop(name, None)
                for metrics in groups.values():
                    metrics[_CALIBRATION] = dict.fromkeys(metrics[_CALIBRATION])

    def results(
        self,
        comparing: Callable[..., Comparison],
        others: Mapping[str, tuple[StageOutput, ArmScores]],
    ) -> dict[str, Any]:
        """Their part of results. comparing: `compare` on some samples; others: arms and
        opponents, where their scores of all samples lie and what these are."""
        whole = {name: (self._made[endpoint_input(name)], of) for name, of in self.of_all_samples.items()}
        others = {**others, **whole}
        found: dict[str, Any] = {}
        for name in self._endpoints:
            found[name] = self._heard(name)
            if not self._is_whole(name):
                samples = self._samples[name]
                scores = {
                    other: replace(
                        scores_among(said, self._log, self._every, samples, of.mix), is_served=of.is_served
                    )
                    for other, (said, of) in others.items()
                }
                comparison = comparing(samples, scores | {name: self._scores(name)})
                self.settle(comparison)
                found[name] |= {
                    **{key: comparison.results[key] for key in ("samples", "models")},
                    "comparisons": comparison.details["comparisons"],
                }
        return {ENDPOINTS: found} if found else {}

    def warnings(self) -> list[str]:
        """Which of them were asked about fewer samples."""
        return [
            f"{name} was asked about {count(of.test)} of {count(self._every.test)} test samples and "
            f"{count(of.validation)} of {count(self._every.validation)} validation samples: it is compared on these, "
            f"in results.json under {ENDPOINTS}, and not in the tables"
            for name, of in self._samples.items()
            if not self._is_whole(name)
        ]

    def _is_whole(self, name: str) -> bool:
        of, every = self._samples[name], self._every
        return count(of.test) == count(every.test) and count(of.validation) == count(every.validation)

    def _scores(self, name: str) -> ArmScores:
        of = self._samples[name]
        return replace(scores_among(self._made[endpoint_input(name)], self._log, of, of), is_served=False)

    def _heard(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(storage.read_text(self._made[endpoint_input(name)].folder / HEARD))
        return found


def scores_among(
    said: StageOutput,
    log: PreparedLog,
    held: EvaluatedSamples,
    chosen: EvaluatedSamples,
    mix: NDArray[np.float64] | None = None,
) -> ArmScores:
    """Label scores of some of the samples that a stage scored, to be read in batches. mix: see `ArmScores`."""
    files = open_scores(said.folder / SCORES, union_rows(held.validation, held.test))
    behaviors = len(log.vocabulary)
    return ArmScores(
        partial(files.batches, chosen.validation, behaviors),
        partial(files.batches, chosen.test, behaviors),
        mix=mix,
        counts_tokens=False,
    )
