"""Evaluation in batches against all scores in memory: the same numbers, and memory that does not grow with them."""

import math
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from behaviorlm.baselines import frequency, markov
from behaviorlm.errors import DataError
from behaviorlm.metrics import (
    intervals,
    score_batches,
)
from behaviorlm.metrics.score_batches import ScoreBatch, keep_predictions
from behaviorlm.prompts.encoder import PromptTokens
from behaviorlm.timelines.vocabulary import Vocabulary
from behaviorlm_ray.evaluation.comparison import Resampling, compare
from behaviorlm_ray.evaluation.counted_log import counted_log
from behaviorlm_ray.evaluation.counting import Counting
from behaviorlm_ray.evaluation.measured import Asked, measure_predictor
from behaviorlm_ray.evaluation.predictors import ArmScores
from behaviorlm_ray.evaluation.rule_choice import Rules
from behaviorlm_ray.evaluation.samples import EvaluatedSamples, sample_facts
from behaviorlm_ray.preparation.prepared_log import PreparedLog, gather
from tests.behaviorlm.random_parts import NAMES, prompt_tokens, vocabulary
from tests.platform.evaluation.in_memory import ARMS, in_memory, samples_of
from tests.platform.evaluation.made_logs import made_scores, streamed, write_log
from tests.platform.score_reading import in_batches


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> PreparedLog:
    lengths = [[60, 45, 30, 25], [70, 40]]
    return write_log(tmp_path_factory.mktemp("log"), lengths, vocabulary(), prompt_tokens(0), 0.1)


def assert_same(found: Any, expected: Any, where: str) -> None:
    """The same keys, counts and names equal, other numbers to 1e-12."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key, value in expected.items():
            assert_same(found[key], value, f"{where}.{key}")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), where
        for index, value in enumerate(expected):
            assert_same(found[index], value, f"{where}[{index}]")
    elif isinstance(expected, float):
        assert math.isclose(found, expected, rel_tol=0, abs_tol=1e-12), (where, found, expected)
    else:
        assert found == expected, where


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_batches_of_any_size_give_the_numbers_of_all_scores_in_memory(
    log: PreparedLog, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_batches, "BATCH_BYTES", step * 5 * 4)
    scores = made_scores(log)
    results, details = in_memory(log, scores)
    samples = results["samples"]
    assert samples["unseen"] > 5 and samples["repeats"] > 20 and samples["groups"] > 3
    assert len({details["tau"][arm] for arm in ARMS}) > 1
    found = streamed(log, scores, step)
    assert found.results["recommended"].pop("reason")  # in words
    assert_same(found.results, results, "results")
    told = {
        name: value for name, value in found.details.items() if name != "breakdowns"
    }  # tests of their own
    assert_same(told, details, "details")
    assert found.warnings == []


def test_there_is_no_mean_per_token_of_scores_that_are_no_sum_over_tokens(log: PreparedLog) -> None:
    scores = made_scores(log)
    with_it, without = (
        streamed(log, scores, 7, counts_tokens=counts_tokens).results["models"]
        for counts_tokens in (True, False)
    )
    assert with_it.keys() - without.keys() == {"untuned+per_token"}
    assert all(with_it[name] == found for name, found in without.items())


def test_what_is_kept_says_the_targets_probability_and_the_first_behaviors(log: PreparedLog) -> None:
    scores = made_scores(log)["one_stage"]["test"]
    targets = gather(log, samples_of(log).test, "behavior")
    summary = keep_predictions(in_batches(scores, 7, 2)(), targets, scores.shape[1]).summary
    whole = scores.astype(np.float64)
    seen = targets >= 0
    probability = np.exp(whole) / np.exp(whole).sum(axis=1, keepdims=True)
    assert np.isnan(summary.target_score[~seen]).all()
    own = probability[np.arange(len(targets)), targets][seen]
    assert np.allclose(np.exp(summary.target_score[seen] - summary.log_normalizer[seen]), own, atol=1e-12)
    for row, top, top_scores in zip(whole, summary.top, summary.top_scores, strict=True):
        assert top.tolist() == sorted(range(5), key=lambda k: (-row[k], k))
        assert np.array_equal(top_scores, row[top])


def test_scores_that_cannot_be_ranked_name_the_sample(log: PreparedLog) -> None:
    scores = made_scores(log)
    scores["one_stage"]["test"][41] = np.nan
    with pytest.raises(DataError, match="label scores of row 41: the highest is nan"):
        streamed(log, scores, 7)


MANY = 1200
"""Behaviors of the log on which memory is looked at."""


@pytest.fixture
def large_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PreparedLog:
    """Batches and blocks are small beside an array of all scores."""
    monkeypatch.setattr(score_batches, "BATCH_BYTES", 40 * MANY * 4)
    monkeypatch.setattr(intervals, "NUMBERS_PER_BLOCK", 50_000)
    monkeypatch.setattr(frequency, "EVENTS_PER_BLOCK", 50_000)
    monkeypatch.setattr(markov, "PROBABILITIES_PER_BLOCK", 50_000)
    names = (*NAMES, *(f"rare {number}" for number in range(MANY - len(NAMES))))
    is_anchor = np.arange(MANY) < 2
    known = Vocabulary(names, np.where(is_anchor, 300, 1), is_anchor)
    labels = tuple(np.array([10 + number], np.int32) for number in range(MANY))
    prompt = PromptTokens(np.array([3], np.int32), np.array([2], np.int32), labels, 1000)
    return write_log(tmp_path, [[100] * 9], known, prompt, 0.0)


def made_up(size: int) -> Callable[[], Iterator[ScoreBatch]]:
    """Scores that are made batch by batch, and that nobody else keeps."""

    def batches() -> Iterator[ScoreBatch]:
        for start in range(0, size, 40):
            places = np.arange(start, min(start + 40, size))
            scores = np.random.default_rng(start).normal(size=(len(places), MANY)).astype(np.float32)
            yield ScoreBatch(places, scores)

    return batches


def arm_of(samples: int) -> ArmScores:
    return ArmScores(
        made_up(samples), made_up(samples), lambda places: np.zeros((len(places), MANY), np.float32)
    )


def peak_of(work: Callable[[], object]) -> int:
    """Most bytes that the work holds at once."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_no_predictor_takes_an_array_of_all_its_scores(large_log: PreparedLog) -> None:
    def measure_all(number: int) -> None:
        rows = [np.arange(20, 20 + number)]
        samples = EvaluatedSamples(rows, rows)
        facts = sample_facts(large_log, samples)
        rules = Rules(facts, large_log.prompt, (0.0, 0.5), 1)
        measure_predictor(arm_of(number), rules, Asked(front_choices=True))
        for baseline in Counting(counted_log(large_log, samples), facts).baselines().values():
            measure_predictor(baseline, rules, Asked(front=False))

    measure_all(40)  # what is made once and kept is not counted below
    few, many = (peak_of(partial(measure_all, samples)) for samples in (100, 450))
    one_array = 350 * MANY * 4
    assert many - few < one_array / 4, (few, many, one_array)


def test_memory_does_not_grow_with_samples_times_behaviors_times_arms(large_log: PreparedLog) -> None:
    def of_so_many(samples: int) -> None:
        rows = EvaluatedSamples([np.arange(2, 12)], [np.arange(20, 20 + samples)])
        arms = {f"arm_{number}": replace(arm_of(samples), validation=made_up(10)) for number in range(3)}
        compare(large_log, rows, arms, tau_grid=(0.0,), resampling=Resampling(5, 0))

    of_so_many(40)
    few, many = (peak_of(partial(of_so_many, samples)) for samples in (100, 450))
    one_array = 350 * MANY * 4
    assert many - few < one_array / 2, (few, many, one_array)
