"""Evaluation of made-up scores on a made-up log: what is said where there is nothing to choose by or to count."""

from dataclasses import replace

import numpy as np
import pytest

from behaviorlm.prompts.config import PromptConfig
from behaviorlm.scoring.config import CHOICE_TAUS
from behaviorlm.scoring.model_names import DECISION_RULES, arm_of, model_name, split_model_name
from behaviorlm_ray.evaluation.comparison import Comparison, Resampling, compare
from behaviorlm_ray.evaluation.predictors import ArmScores
from behaviorlm_ray.evaluation.recommendation import (
    NOTHING_TO_CHOOSE_BY,
    Option,
    best,
    options,
    recommended,
)
from behaviorlm_ray.evaluation.samples import WITHOUT_VALIDATION, EvaluatedSamples
from behaviorlm_ray.preparation.prepared_log import PreparedLog
from behaviorlm_ray.report.content import Recommended, Results
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


def compared(log: PreparedLog, minimum: int, *, users: int = 2) -> Comparison:
    """Random scores as two models, measured on the later rows of each part and chosen on the earlier ones."""
    samples = EvaluatedSamples([np.arange(5, 40)] * 2, [np.arange(45, 85)] * 2)
    if users == 1:
        samples = replace(samples, validation=[np.arange(5, 40), np.arange(0)])
    random = np.random.default_rng(2)
    scores = {
        name: ArmScores(
            in_batches(random.normal(size=(35 * users, 5)).astype(np.float32), 16),
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
    assert models <= found.details["tau"].keys() and found.details["fronts"].keys() == models
    assert {f"{name}+adjusted" for name in models} <= found.results["models"].keys()
    assert found.warnings == [] and found.results["in_expectation"] is None
    for name in models:
        chosen, of_validation = found.details["validation"][name], found.results["validation"][name]
        assert chosen["plain"] == of_validation["objective"]
        points = {point["tau"]: point for point in found.details["fronts"][name]["points"]}
        for model, tau in ((name, 0.0), (f"{name}+adjusted", found.details["tau"][name])):
            measured = found.results["models"][model]
            assert points[tau]["anchor_accuracy"] == measured["anchor"]["accuracy"]["value"]
            assert points[tau]["tail_macro_recall"] == measured["tail"]["macro_recall_at_least_10"]["value"]


def test_it_is_counted_how_many_groups_choices_rest_on_and_how_many_tables(log: PreparedLog) -> None:
    samples = compared(log, 1).results["samples"]
    assert (samples["validation"], samples["validation_groups"]) == (70, 2)  # the first user of each part
    assert (samples["all"], samples["groups"]) == (80, 4)


def test_every_predictor_counting_included_has_every_rule_and_the_best_that_can_be_served_is_recommended(
    log: PreparedLog,
) -> None:
    found = compared(log, 1)
    [mixture] = [name for name in found.details["rules"] if name.endswith("+counts")]
    for name in found.details["rules"]:
        assert {model_name(name, rule) for rule in DECISION_RULES} <= found.results["models"].keys()
        assert list(found.details["validation"][name]) == list(DECISION_RULES)
    said = found.results["recommended"]
    served = ["counts", "untuned", "one_stage", mixture]
    assert list(dict.fromkeys(option["predictor"] for option in said["compared"])) == served
    for option in said["compared"]:
        assert option["objective"] == found.details["validation"][option["predictor"]][option["rule"]]
    safe = best([Option(**one) for one in said["compared"][-4:-2]])
    assert safe is not None and (safe.predictor, safe.gain) == (
        mixture,
        {"value": 0.0, "low": 0.0, "high": 0.0},
    )
    sure = [option["objective"] for option in said["compared"] if option["gain"]["low"] > 0]
    assert said["objective"] == max(sure, default=safe.objective)
    assert (
        said["model"] == model_name(said["predictor"], said["rule"]) and "the safe choice" in said["reason"]
    )
    assert Results.model_validate(found.results).recommended == Recommended.model_validate(said)
    of_arms = {arm: max(found.details["validation"][arm].values()) for arm in ("untuned", "one_stage")}
    assert arm_of(mixture) == max(of_arms, key=lambda arm: of_arms[arm])


def test_of_equal_options_the_simplest_is_taken() -> None:
    equal = dict.fromkeys(DECISION_RULES, 0.5)
    counts, model = options("counts", equal), options("one_stage", equal | {"fitted": 0.5 + 1e-13})
    assert best([*counts, *model]) == counts[0] and best(model) == model[0]
    better = best([*counts, *options("one_stage", equal | {"fitted": 0.6})])
    assert better is not None and better.model == "one_stage+fitted"


def gaining(model: str, objective: float, low: float | None, high: float | None = 0.5) -> Option:
    gain = {"value": objective - 0.4, "low": low, "high": high}
    return Option(*split_model_name(model), model, objective, gain)


def test_what_is_better_is_recommended_only_where_validation_is_sure() -> None:
    plain, bayes = (
        gaining("one_stage+counts", 0.3, -0.2, 0.1),
        gaining("one_stage+counts+bayes", 0.4, 0.0, 0.0),
    )
    unsure, fitted = gaining("counts", 0.6, -0.01), gaining("one_stage+counts+fitted", 0.5, 0.001)
    alone = recommended([unsure, plain, bayes])
    assert alone["model"] == "one_stage+counts+bayes" and alone["objective"] == 0.4
    assert alone["reason"] == (
        "it is the safe choice, and nothing is surely ahead of it on validation: counts is, by +0.200 [-0.010, +0.500]"
    )
    assert recommended([unsure, bayes, plain, fitted])["model"] == "one_stage+counts+fitted"
    assert "sure that it is ahead of one_stage+counts+bayes" in recommended([plain, bayes, fitted])["reason"]
    surer = recommended([gaining("counts", 0.6, 0.1), plain, bayes, fitted])
    assert surer["model"] == "counts" and surer["gain"]["low"] == 0.1
    unknown = recommended([gaining("counts", 0.6, None, None), plain, bayes])
    assert unknown["model"] == "one_stage+counts+bayes" and unknown["reason"].endswith("how far is not known")
    nothing = recommended([plain, gaining("one_stage+counts+bayes", 0.2, -0.3, -0.1)])
    assert nothing["reason"] == "it is the safe choice, and nothing is ahead of it on validation"


def test_with_one_user_there_is_no_interval_and_the_safe_choice_is_taken(log: PreparedLog) -> None:
    found = compared(log, 1, users=1)
    said = found.results["recommended"]
    assert found.results["samples"]["validation_groups"] == 1
    assert {option["gain"]["low"] for option in said["compared"] if option["gain"]} == {None}
    assert said["predictor"].endswith("+counts") and said["rule"] in ("plain", "bayes")


def test_without_anything_to_choose_by_tau_stays_0_and_a_warning_says_why(log: PreparedLog) -> None:
    found = compared(log, 1000)
    assert set(found.details["tau"].values()) == {0.0} and found.details["mixtures"] == {}
    assert found.details["validation"]["one_stage"] == dict.fromkeys(DECISION_RULES)
    assert found.results["validation"]["one_stage"]["objective"] is None
    [warning] = found.warnings
    assert "no tail behavior with 1000 targets; raise split.validation" in warning
    models = found.results["models"]
    assert models["one_stage+adjusted"] == models["one_stage+fitted"] == models["one_stage"]
    said = found.results["recommended"]
    assert said["predictor"] is said["model"] is said["objective"] is None
    assert said["reason"] == NOTHING_TO_CHOOSE_BY and len(said["compared"]) == 12


def test_a_choice_by_few_tail_behaviors_is_told(log: PreparedLog) -> None:
    one_tail = int(np.flatnonzero(~log.vocabulary.is_anchor)[0])
    assert compared(log, 10).warnings == []
    chosen_on = [
        np.flatnonzero(log.vocabulary.is_anchor[part.behavior] | (part.behavior == one_tail))[:35]
        for part in log.parts
    ]
    scores = np.random.default_rng(2).normal(size=(80, 5)).astype(np.float32)
    found = compare(
        log,
        EvaluatedSamples(chosen_on, [np.arange(45, 85)] * 2),
        {"one_stage": ArmScores(in_batches(scores[: sum(map(len, chosen_on))], 16), in_batches(scores, 16))},
        tau_grid=CHOICE_TAUS,
        resampling=Resampling(50, 0),
    )
    tail = int((~log.vocabulary.is_anchor).sum())
    assert tail > 1 and found.results["recommended"]["model"] is not None
    [warning] = found.warnings
    assert warning.startswith(f"what is recommended was chosen by 1 of {tail} tail behaviors only")


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
    assert found.results["recommended"]["model"] is None and found.results["recommended"]["compared"] == []
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
