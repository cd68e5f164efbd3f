"""Evaluation of made-up scores on a made-up log: what is said where there is nothing to choose by or to count."""

import numpy as np
import pytest

from behaviorlm.prompts.config import PromptConfig
from behaviorlm.scoring.config import CHOICE_TAUS
from behaviorlm_ray.evaluation.comparison import Comparison, Resampling, compare
from behaviorlm_ray.evaluation.predictors import ArmScores
from behaviorlm_ray.evaluation.samples import WITHOUT_VALIDATION, EvaluatedSamples
from behaviorlm_ray.preparation.prepared_log import PreparedLog
from behaviorlm_ray.report.results_table import results_table
from tests.behaviorlm.random_parts import prompt_tokens, vocabulary, write_part
from tests.platform.score_reading import in_batches


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> PreparedLog:
    folder = tmp_path_factory.mktemp("log")
    (folder / "parts").mkdir()
    for number in range(2):
        write_part(folder / "parts" / f"timelines-{number:05d}.arrow", number, [40, 30, 20])
    (folder / "vocabulary.json").write_text(vocabulary().to_json())
    (folder / "prompt.json").write_text(prompt_tokens(0).to_json())
    return PreparedLog(folder, PromptConfig())


def compared(log: PreparedLog, minimum: int) -> Comparison:
    """Random scores as two models, measured on the later rows of each part and chosen on the earlier ones."""
    samples = EvaluatedSamples([np.arange(5, 40)] * 2, [np.arange(45, 85)] * 2)
    random = np.random.default_rng(2)
    scores = {
        name: ArmScores(
            in_batches(random.normal(size=(70, 5)).astype(np.float32), 16),
            in_batches(random.normal(size=(80, 5)).astype(np.float32), 16),
        )
        for name in ("untuned", "one_stage")
    }
    return compare(
        log, samples, scores, tau_grid=CHOICE_TAUS, resampling=Resampling(50, 0), tail_minimum_targets=minimum
    )


def test_every_model_is_adjusted_and_has_a_front_the_untuned_one_too(log: PreparedLog) -> None:
    found = compared(log, 1)
    models = {"untuned", "one_stage"}
    assert found.details["tau"].keys() == found.details["fronts"].keys() == models
    assert {f"{name}+adjusted" for name in models} <= found.results["models"].keys()
    assert found.warnings == [] and found.results["in_expectation"] is None
    for name in models:
        chosen, of_validation = found.details["validation"][name], found.results["validation"][name]
        assert chosen["plain"] == of_validation["objective"] <= chosen["adjusted"]
        points = {point["tau"]: point for point in found.details["fronts"][name]["points"]}
        for model, tau in ((name, 0.0), (f"{name}+adjusted", found.details["tau"][name])):
            measured = found.results["models"][model]
            assert points[tau]["anchor_accuracy"] == measured["anchor"]["accuracy"]["value"]
            assert points[tau]["tail_macro_recall"] == measured["tail"]["macro_recall_at_least_10"]["value"]


def test_it_is_counted_how_many_groups_choices_rest_on_and_how_many_tables(log: PreparedLog) -> None:
    samples = compared(log, 1).results["samples"]
    assert (samples["validation"], samples["validation_groups"]) == (70, 2)  # the first user of each part
    assert (samples["all"], samples["groups"]) == (80, 4)


def test_without_anything_to_choose_by_tau_stays_0_and_a_warning_says_why(log: PreparedLog) -> None:
    found = compared(log, 1000)
    assert found.details["tau"] == {"untuned": 0.0, "one_stage": 0.0}
    assert found.details["validation"]["one_stage"] == {"plain": None, "adjusted": None}
    assert found.results["validation"]["one_stage"]["objective"] is None
    assert [warning.partition(":")[0] for warning in found.warnings] == ["untuned", "one_stage"]
    assert "no tail behavior with 1000 targets; raise split.validation" in found.warnings[0]
    models = found.results["models"]
    assert models["one_stage+adjusted"] == models["one_stage"]


def test_without_validation_nothing_is_adjusted_and_a_warning_says_so(log: PreparedLog) -> None:
    nobody = [np.arange(0)] * 2
    scores = np.random.default_rng(2).normal(size=(80, 5)).astype(np.float32)
    found = compare(
        log,
        EvaluatedSamples(nobody, [np.arange(45, 85)] * 2),
        {"one_stage": ArmScores(in_batches(scores[:0], 16), in_batches(scores, 16))},
        tau_grid=CHOICE_TAUS,
        resampling=Resampling(50, 0),
    )
    assert found.details["tau"] == {} and "one_stage+adjusted" not in found.results["models"]
    assert found.warnings == [WITHOUT_VALIDATION]


def test_the_table_has_a_dash_where_the_endpoint_in_expectation_counts_nothing(log: PreparedLog) -> None:
    results = compared(log, 1).results
    plain = results_table(results)
    assert "expected" not in "".join(plain)
    ends = {"anchor_accuracy": 0.25, "tail_macro_recall": None}
    known = {"bound": {"anchor_accuracy": 0.5, "tail_macro_recall": None}, "models": {"one_stage": ends}}
    table = results_table(results | {"in_expectation": known})
    cells = {line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ")[-2:] for line in table[2:-2]}
    assert cells["one_stage"] == ["0.250", "–"] and cells["**bound**"] == ["0.500", "–"]
    assert cells["bigram"] == ["–", "–"]
