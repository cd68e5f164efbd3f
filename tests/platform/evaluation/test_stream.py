"""Evaluation in batches against all scores in memory: the same numbers, and memory that does not grow with them."""

import math
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from behaviorlm.baselines import fit_baselines, frequency, markov, timeline_arrays
from behaviorlm.errors import DataError
from behaviorlm.metrics import (
    Outcomes,
    bootstrap,
    intervals,
    paired_difference,
    per_behavior_table,
    reliability,
    score_batches,
)
from behaviorlm.metrics.front import endpoint_area
from behaviorlm.metrics.score_batches import ScoreBatch, keep_predictions
from behaviorlm.prompts.encoder import PromptConfig, PromptTokens
from behaviorlm.timelines.parts import labels_with_terminator
from behaviorlm.timelines.vocabulary import Vocabulary
from behaviorlm_ray.evaluation.arms import Rules, measure_arm
from behaviorlm_ray.evaluation.comparison import Comparison, compare
from behaviorlm_ray.evaluation.predictors import ArmScores, baseline_predictors
from behaviorlm_ray.evaluation.samples import EvaluatedSamples
from behaviorlm_ray.preparation.prepared_log import PreparedLog, gather, group_names
from tests.behaviorlm.random_parts import NAMES, prompt_tokens, vocabulary, write_part
from tests.platform.score_reading import in_batches

GRID = (-0.5, 0.0, 0.25, 0.6, 1.0)
ARMS = ("untuned", "one_stage", "ab_tuned")


def write_log(
    folder: Path, lengths: list[list[int]], known: Vocabulary, prompt: PromptTokens, unseen: float
) -> PreparedLog:
    """Random timelines; a share of the events is of a behavior that training has not seen."""
    (folder / "parts").mkdir()
    random = np.random.default_rng(3)
    for number, of_part in enumerate(lengths):
        path = folder / "parts" / f"timelines-{number:05d}.arrow"
        write_part(path, number, of_part)
        table = pa.ipc.open_file(path.read_bytes()).read_all()
        names = ["never seen" if random.random() < unseen else name for name in table["behavior"].to_pylist()]
        table = table.set_column(table.column_names.index("behavior"), "behavior", pa.array(names))
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)
    (folder / "vocabulary.json").write_text(known.to_json())
    (folder / "prompt.json").write_text(prompt.to_json())
    return PreparedLog(folder, PromptConfig())


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> PreparedLog:
    lengths = [[60, 45, 30, 25], [70, 40]]
    return write_log(tmp_path_factory.mktemp("log"), lengths, vocabulary(), prompt_tokens(0), 0.1)


def samples_of(log: PreparedLog) -> EvaluatedSamples:
    later = [np.arange(65, len(part)) for part in log.parts]
    return EvaluatedSamples([np.arange(3, 60)] * len(log.parts), later)


def made_scores(log: PreparedLog) -> dict[str, dict[str, np.ndarray]]:
    """Scores that lean towards the targets, many of them equal, some -inf."""
    samples, random = samples_of(log), np.random.default_rng(9)
    found: dict[str, dict[str, np.ndarray]] = {}
    for lean, name in enumerate(ARMS):
        found[name] = {}
        for split in ("validation", "test"):
            targets = gather(log, getattr(samples, split), "behavior")
            scores = np.round(random.normal(size=(len(targets), 5)) * 2) / 2
            scores += 0.5 * lean * (np.arange(5) == targets[:, None])
            scores[random.random(scores.shape) < 0.05] = -np.inf
            scores[np.isneginf(scores).all(axis=1), 2] = 0.0
            found[name][split] = scores.astype(np.float32)
    found["untuned"]["without_history"] = random.normal(size=found["untuned"]["test"].shape).astype(
        np.float32
    )
    return found


def streamed(
    log: PreparedLog, scores: dict[str, dict[str, np.ndarray]], step: int, counts_tokens: bool = True
) -> Comparison:
    arms = {}
    for name, of_arm in scores.items():
        alone = of_arm.get("without_history")
        arms[name] = ArmScores(
            in_batches(of_arm["validation"], step, 1),
            in_batches(of_arm["test"], step, 2),
            None if alone is None else alone.__getitem__,
            counts_tokens=counts_tokens,
        )
    return compare(log, samples_of(log), arms, tau_grid=GRID, resamples=60, seed=4)


def by_sorting(scores: np.ndarray, targets: np.ndarray) -> Outcomes:
    """Outcomes from a whole ranking of each row, one row at a time."""
    rank, predicted, confidence = [], [], []
    for row, target in zip(scores.astype(np.float64), targets, strict=True):
        order = sorted(range(len(row)), key=lambda k: (-row[k], k))
        predicted.append(order[0])
        rank.append(order.index(target) if target >= 0 else -1)
        confidence.append(1 / np.exp(row - row.max()).sum())
    return Outcomes(targets, np.array(predicted, np.int32), np.array(rank, np.int32), np.array(confidence), 5)


def ends(predicted: np.ndarray, targets: np.ndarray, minimum: int) -> tuple[float, float]:
    """Anchor accuracy and tail macro recall, behaviors 0 and 1 being the anchors."""
    anchors = (targets == 0) | (targets == 1)
    recalls = [np.mean(predicted[targets == k] == k) for k in (2, 3, 4) if (targets == k).sum() >= minimum]
    return float(np.mean(predicted[anchors] == targets[anchors])), float(np.mean(recalls))


def whole_baselines(log: PreparedLog, samples: EvaluatedSamples) -> dict[str, np.ndarray]:
    table = pa.concat_tables([part.table for part in log.parts])
    timelines = timeline_arrays(table, log.vocabulary.names)
    asked = np.concatenate([samples.test[0], samples.test[1] + len(log.parts[0])])
    return {name: baseline.predict(timelines, asked) for name, baseline in fit_baselines(timelines).items()}


def in_memory(log: PreparedLog, scores: dict[str, dict[str, np.ndarray]]) -> tuple[dict, dict]:
    """results and details, with all scores in memory at once."""
    samples, known = samples_of(log), log.vocabulary
    targets, on_validation = (gather(log, rows, "behavior") for rows in (samples.test, samples.validation))
    prior = np.log((known.counts + 1) / (known.counts + 1).sum())
    lengths = np.array([len(label) for label in labels_with_terminator(log.prompt)])
    whole = whole_baselines(log, samples)
    tau, validation, fronts, plain = {}, {}, {}, {}
    for name, of_arm in scores.items():
        test, chosen_on = of_arm["test"], of_arm["validation"]
        whole[name] = test
        if "without_history" in of_arm:
            whole[f"{name}+pmi"] = test - of_arm["without_history"]
            whole[f"{name}+per_token"] = (test / lengths).astype(np.float32)
        objectives = {}
        for strength in GRID:
            adjusted = (chosen_on - strength * prior).astype(np.float32)
            objectives[strength] = sum(ends(adjusted.argmax(axis=1), on_validation, 1)) / 2
        tau[name] = min(GRID, key=lambda one: (-objectives[one], abs(one), one))
        whole[f"{name}+adjusted"] = (test - tau[name] * prior).astype(np.float32)
        accuracy, recall = ends(chosen_on.argmax(axis=1), on_validation, 1)
        plain[name] = {
            "anchor_accuracy": accuracy,
            "tail_macro_recall": recall,
            "objective": (accuracy + recall) / 2,
        }
        validation[name] = {"plain": plain[name]["objective"], "adjusted": objectives[tau[name]]}
        points = []
        for strength in np.arange(-20, 31) / 20:
            adjusted = (test - strength * prior).astype(np.float32)
            accuracy, recall = ends(adjusted.argmax(axis=1), targets, 10)
            points.append({"tau": strength, "anchor_accuracy": accuracy, "tail_macro_recall": recall})
        fronts[name] = {
            "points": [point | {"expected": None} for point in points],
            "area": endpoint_area(points),
            "expected_area": None,
        }
    measured = {name: by_sorting(of_model, targets) for name, of_model in whole.items()}
    is_repeat, groups = gather(log, samples.test, "is_repeat"), group_names(log, samples.test)
    drawn: dict[str, Any] = {"resamples": 60, "seed": 4}
    models = {
        name: bootstrap(model, known.is_anchor, groups, is_repeat, **drawn)
        for name, model in measured.items()
    }
    differences = {
        name: paired_difference(measured["ab_tuned"], model, known.is_anchor, groups, is_repeat, **drawn)
        for name, model in measured.items()
        if name != "ab_tuned"
    }
    counts = {
        "all": len(targets),
        "anchor": sum(target in (0, 1) for target in targets),
        "tail": sum(target not in (0, 1) for target in targets),
        "unseen": sum(target < 0 for target in targets),
        "repeats": sum(is_repeat),
        "changes": sum(~is_repeat),
        "validation": len(on_validation),
        "validation_groups": len(set(group_names(log, samples_of(log).validation))),
        "groups": len(set(groups)),
    }
    results = {
        "ceiling": None,
        "in_expectation": None,
        "models": models,
        "validation": plain,
        "samples": counts,
    }
    details = {
        "tau": tau,
        "validation": validation,
        "fronts": fronts,
        "truth": None,
        "comparisons": [
            {
                "first": "ab_tuned",
                "second": name,
                "group": group,
                "metric": metric,
                "difference": of[group][metric]["value"],
                "low": of[group][metric]["low"],
                "high": of[group][metric]["high"],
                "p_value": of[group][metric]["p"],
            }
            for name, of in differences.items()
            for group, metric in (
                ("all", "accuracy"),
                ("anchor", "accuracy"),
                ("tail", "macro_recall_at_least_10"),
            )
        ],
        "per_behavior": {
            name: per_behavior_table(model, NAMES, known.is_anchor, known.counts).to_pylist()
            for name, model in measured.items()
        },
        "reliability": {name: reliability(model).to_pylist() for name, model in measured.items()},
    }
    return results, details


def assert_same(found: Any, expected: Any, where: str) -> None:
    """Keys in the same order, counts and names equal, other numbers to 1e-12."""
    if isinstance(expected, dict):
        assert list(found) == list(expected), where
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
    assert_same(found.results, results, "results")
    assert_same(found.details, details, "details")
    assert found.warnings == []


def test_there_is_no_mean_per_token_of_scores_that_are_no_sum_over_tokens(log: PreparedLog) -> None:
    scores = made_scores(log)
    with_it, without = (
        streamed(log, scores, 7, counts_tokens).results["models"] for counts_tokens in (True, False)
    )
    assert with_it.keys() - without.keys() == {"untuned+per_token"}
    assert all(with_it[name] == found for name, found in without.items())


def test_scores_that_cannot_be_ranked_name_the_sample(log: PreparedLog) -> None:
    scores = made_scores(log)
    scores["one_stage"]["test"][41] = np.nan
    with pytest.raises(DataError, match="label scores of row 41: the highest is nan"):
        streamed(log, scores, 7)


MANY = 800
"""Behaviors of the log on which memory is looked at."""


@pytest.fixture
def large_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PreparedLog:
    """Batches and blocks are small beside an array of all scores."""
    monkeypatch.setattr(score_batches, "BATCH_BYTES", 40 * MANY * 4)
    monkeypatch.setattr(intervals, "NUMBERS_PER_BLOCK", 50_000)
    monkeypatch.setattr(frequency, "COUNTS_PER_BLOCK", 50_000)
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
    rules = Rules(large_log.vocabulary, large_log.prompt, (0.0, 0.5), 1)

    def measure_all(samples: int) -> None:
        rows = [np.arange(20, 20 + samples)]
        targets = gather(large_log, rows, "behavior")
        measure_arm(arm_of(samples), targets, targets, rules, keep_front=True)
        for predictor in baseline_predictors(large_log, rows).values():
            keep_predictions(predictor(), targets, MANY)

    measure_all(40)  # what is made once and kept is not counted below
    few, many = (peak_of(partial(measure_all, samples)) for samples in (100, 450))
    one_array = 350 * MANY * 4
    assert many - few < one_array / 4, (few, many, one_array)


def test_memory_does_not_grow_with_samples_times_behaviors_times_arms(large_log: PreparedLog) -> None:
    def of_so_many(samples: int) -> None:
        rows = EvaluatedSamples([np.arange(2, 12)], [np.arange(20, 20 + samples)])
        arms = {f"arm_{number}": replace(arm_of(samples), validation=made_up(10)) for number in range(3)}
        compare(large_log, rows, arms, tau_grid=(0.0,), resamples=5, seed=0)

    of_so_many(40)
    few, many = (peak_of(partial(of_so_many, samples)) for samples in (100, 450))
    one_array = 350 * MANY * 4
    assert many - few < one_array / 2, (few, many, one_array)
