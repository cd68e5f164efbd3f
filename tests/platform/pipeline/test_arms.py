"""Arms of a comparison: what each changes and shares, what a run may define, and a run of several that share stages."""

import json
from pathlib import Path
from typing import Any

import pytest

from behaviorlm.config import load_settings
from behaviorlm.errors import ConfigError
from behaviorlm_ray.pipeline.arms import PRESETS
from behaviorlm_ray.pipeline.evaluate import evaluate
from behaviorlm_ray.pipeline.input_checks import check_inputs
from behaviorlm_ray.pipeline.prepare import open_log
from behaviorlm_ray.pipeline.run import open_run
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.pipeline.tune import a_tune
from behaviorlm_ray.preparation.prepared_log import count, rows_of_anchors, rows_of_split
from behaviorlm_ray.report.results import report_data
from behaviorlm_ray.storage import read_text
from tests.platform.small_runs import log_rows, run_data, write_conversations, write_log


@pytest.fixture
def data(small_base: Path, tmp_path: Path) -> dict[str, Any]:
    log = write_log(tmp_path / "log.csv", log_rows(21, users=20))
    talk = {"name": "talk", "paths": [str(write_conversations(tmp_path / "talk.jsonl"))], "max_tokens": 64}
    return run_data(tmp_path / "runs", small_base, log) | {"auxiliary": [talk]}


def settings_of(data: dict[str, Any], *overrides: str) -> RunSettings:
    return load_settings(RunSettings, None, overrides, data)


def planned(settings: RunSettings) -> list[str]:
    run = open_run(settings)
    return [plan.name for _, plan in run.runner().plan(evaluate(run))]


def test_an_arm_adds_only_the_stages_that_its_keys_touch(data: dict[str, Any]) -> None:
    common = planned(settings_of(data, "evaluation.arms=[untuned, one_stage, a_tuned, ab_tuned]"))
    added = {
        "ab_random": {"select", "b_tune", "predict_ab_tuned"},
        "all_b": {"score", "select", "b_tune", "predict_ab_tuned"},
        "one_stage_auxiliary": {"one_stage", "predict_one_stage"},
    }
    with_thinned = planned(
        settings_of(data, "evaluation.arms=[untuned, one_stage, a_tuned, ab_tuned, thinned]")
    )
    assert sorted(with_thinned) == sorted([*common, "draw", "thinned", "predict_thinned"])
    for arm, stages in added.items():
        with_arm = planned(
            settings_of(data, f"evaluation.arms=[untuned, one_stage, a_tuned, ab_tuned, {arm}]")
        )
        assert sorted(with_arm) == sorted([*common, *(f"{stage} ({arm})" for stage in stages)])


def test_an_arm_with_the_values_of_the_run_is_the_same_model(data: dict[str, Any]) -> None:
    arms = 'arms={same: {tuning: ab_tuned, values: {"selection.balance": 0.3, "b_tuning.epochs": 1.0}}}'
    with_arm = planned(settings_of(data, arms, "evaluation.arms=[ab_tuned, same]"))
    assert with_arm == planned(settings_of(data, "evaluation.arms=[ab_tuned]"))


def test_an_arm_may_be_scored_by_another_normalization(data: dict[str, Any]) -> None:
    arms = "arms={closed: {tuning: one_stage, values: {scoring.normalization: trie}}}"
    stages = set(planned(settings_of(data, arms, "evaluation.arms=[one_stage, closed]")))
    common = set(planned(settings_of(data, "evaluation.arms=[one_stage]")))
    assert stages - common == {"predict_one_stage (closed)"}


def test_an_arm_may_have_another_loss(data: dict[str, Any]) -> None:
    values = "{loss.tokens: labels, scoring.normalization: trie}"
    arms = f"arms={{labels: {{tuning: one_stage, values: {values}}}}}"
    stages = set(planned(settings_of(data, arms, "evaluation.arms=[one_stage, labels]")))
    common = set(planned(settings_of(data, "evaluation.arms=[one_stage]")))
    assert stages - common == {"one_stage (labels)", "predict_one_stage (labels)"}


def test_every_preset_is_a_valid_arm(data: dict[str, Any]) -> None:
    settings = settings_of(data, f"evaluation.arms=[{', '.join(PRESETS)}]")
    assert len(planned(settings)) > len(PRESETS)
    assert all(arm.description for arm in PRESETS.values())


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("evaluation.arms=[a_tuned, b_tuned]", ["there is no b_tuned", "known: untuned, one_stage"]),
        ("evaluation.arms=[a_tuned, a_tuned]", ["each arm once"]),
        ("arms={a_tuned: {tuning: a_tuned}}", ["a_tuned exist already"]),
        ("arms={counts: {tuning: a_tuned}}", ["counts exist already"]),
        ("arms={bigram: {tuning: a_tuned}}", ["bigram exist already"]),
        ("arms={'../x': {tuning: a_tuned}}", ["'../x'", "lower case"]),
        ("arms={x: {tuning: both}}", ["arms.x.tuning", "'both'"]),
        ("arms={x: {tuning: a_tuned, values: {split.by: group}}}", ["split.by", "same samples"]),
        (
            "arms={x: {tuning: a_tuned, values: {few_shot.tail_samples: 3}}}",
            ["few_shot.tail_samples", "same"],
        ),
        ("auxiliary.0.name=keep_tail", ["auxiliary: keep_tail is told of under that name already"]),
        ("few_shot.tail_samples=0", ["few_shot.tail_samples", "greater than or equal to 1"]),
        ("arms={x: {tuning: ab_tuned, values: {selection.within: best}}}", ["arms.x.values", "'best'"]),
        ("arms={x: {tuning: ab_tuned, values: {selection.wihtin: hard}}}", ["arms.x.values", "'within'"]),
        ("loss.tokens=labels", ["loss.tokens", "scoring.normalization must be 'trie', not 'full'"]),
        (
            "arms={x: {tuning: ab_tuned, values: {loss.tokens: labels}}}",
            ["arms.x.values", "loss.tokens", "scoring.normalization must be 'trie', not 'full'"],
        ),
        ("loss.tokens=allowed", ["loss.tokens is 'allowed'", "must be 'trie', not 'full'"]),
        (
            "loss={class_balance: 0.9, oversample: 0.5}",
            ["class_balance (0.9) and oversample (0.5)", "set one of them to 0"],
        ),
        ("loss.temperature=2", ["temperature is 2", "tokens must be 'allowed', not 'all'"]),
        ("loss={tokens: allowed, temperature: 0}", ["loss.temperature", "greater than 0"]),
        ("loss.focal=-1", ["loss.focal", "greater than or equal to 0"]),
        ("loss.class_balance=1", ["loss.class_balance", "less than 1"]),
        ("loss.oversample=1.5", ["loss.oversample", "less than or equal to 1"]),
        ("arms={x: {tuning: ab_tuned, values: {auxiliary.3.weight: 1}}}", ["arms.x.values", "'3'"]),
    ],
)
def test_a_wrong_arm_is_refused_by_name(data: dict[str, Any], override: str, told: list[str]) -> None:
    with pytest.raises(ConfigError) as raised:
        settings_of(data, override)
    assert all(text in str(raised.value) for text in told), raised.value


@pytest.mark.slow
def test_an_arm_is_held_to_what_the_base_says_of_the_tail(ray_cluster: None, data: dict[str, Any]) -> None:
    keep = "{a_tuning.keep_tail: {weight: 50.0, share: 0.7, temperature: 2.0}}"
    run = open_run(settings_of(data, f"arms={{kept: {{tuning: a_tuned, values: {keep}}}}}"))
    check_inputs(run, is_written=True)
    runner = run.runner()
    tuned, held = (runner.run(a_tune(of)) for of in (run, run.for_arm("kept")))
    reference = runner.named(a_tune(run.for_arm("kept")))["reference (kept)"]
    log = open_log(runner.named(a_tune(run))["prepare"], run.settings)
    anchors = count(rows_of_anchors(log, rows_of_split(log, "train")))
    assert 0 < reference.manifest.rows["samples"] < anchors
    curves = [
        [json.loads(line)["parts"] for line in read_text(each.folder / "loss.jsonl").splitlines()]
        for each in (tuned, held)
    ]
    assert curves[0][0].keys() == {"samples", "talk"}
    assert curves[1][0].keys() == {"samples", "talk", "keep_tail"}
    # the base does not differ from itself before the first step, and is pulled back to itself afterwards
    assert curves[1][0]["keep_tail"] == pytest.approx(0, abs=1e-4)
    assert max(parts["keep_tail"] for parts in curves[1]) > 1e-4


@pytest.mark.slow
def test_arms_run_and_are_compared_and_reported_apart(ray_cluster: None, data: dict[str, Any]) -> None:
    run = open_run(settings_of(data, "evaluation.arms=[untuned, ab_tuned, ab_random, all_b]"))
    check_inputs(run, is_written=True)
    runner = run.runner()
    evaluated = runner.run(evaluate(run))
    results = json.loads(read_text(evaluated.folder / "results.json"))
    assert {"ab_tuned", "ab_random", "ab_random+adjusted", "all_b"} <= results["models"].keys()
    outputs = runner.named(evaluate(run))
    assert {
        "b_tune",
        "b_tune (ab_random)",
        "b_tune (all_b)",
        "score (all_b)",
        "one_stage (all_b)",
    } <= outputs.keys()
    assert "score (ab_random)" not in outputs
    assert (
        outputs["b_tune (all_b)"].manifest.inputs["start"]
        == outputs["one_stage (all_b)"].manifest.content_hash
    )
    reported = report_data(run, runner)
    assert reported.models["all_b"].description == PRESETS["all_b"].description
    parts = open_log(outputs["prepare"], run.settings).parts
    users = {user for part in parts for user in part.table["user"].to_pylist()}
    content = reported.model_dump_json()
    assert users and not [user for user in users if f"'{user}'" in content]
