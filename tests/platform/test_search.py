"""Searches: what is refused before anything runs, what the plan counts, how trials become a summary and a winner."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray.exceptions import RayTaskError

from behaviorlm.config import load_settings
from behaviorlm.errors import ConfigError, DataError
from behaviorlm.prompts import PromptConfig
from behaviorlm_ray import storage
from behaviorlm_ray.evaluation import validation_metrics
from behaviorlm_ray.pipeline import Pipeline
from behaviorlm_ray.prepared import PreparedLog
from behaviorlm_ray.search.settings import (
    SearchSettings,
    base_run,
    flattened,
    trial_parameters,
    trial_settings,
)
from behaviorlm_ray.search.summary import (
    TrialOutcome,
    attempts_of_stages,
    times_run,
    winner_of,
    write_summary,
)
from behaviorlm_ray.search.sweep import check_trials, plan_search, reason
from behaviorlm_ray.settings import RunSettings
from behaviorlm_ray.stages import StageFolder, StageResult, run_stage
from tests.behaviorlm.random_parts import prompt_tokens, vocabulary, write_part
from tests.platform.small_runs import log_rows, run_data, write_conversations, write_log

SPACE = {"auxiliary.0.weight": [0.1, 0.5], "selection.balance": [0.1, 0.3, 0.5]}


@pytest.fixture
def run(tmp_path: Path, small_base: Path) -> dict[str, Any]:
    """A run with one auxiliary source, as in YAML."""
    data = run_data(tmp_path / "runs", small_base, write_log(tmp_path / "log.csv", log_rows(1)))
    talks = write_conversations(tmp_path / "talks.jsonl")
    return data | {"auxiliary": [{"name": "talks", "paths": [str(talks)], "weight": 0.2}]}


def search_settings(run: dict[str, Any], *overrides: str, **keys: Any) -> SearchSettings:
    data = {"name": "grid", "run": run, "space": SPACE} | keys
    return load_settings(SearchSettings, None, overrides, data)


def test_a_grid_has_every_combination_once_and_the_last_key_varies_fastest() -> None:
    grid = trial_parameters({"a.b": [1, 2], "c": ["x", None], "d": [[0.5]]})
    assert len(grid) == 4
    assert grid[:2] == [{"a.b": 1, "c": "x", "d": [0.5]}, {"a.b": 1, "c": None, "d": [0.5]}]
    assert [trial["a.b"] for trial in grid] == [1, 1, 2, 2]


def test_a_space_may_be_nested_and_a_later_nested_key_replaces_the_dotted_one() -> None:
    assert flattened({"a": {"b": {"c": [1]}, "d": [2]}, "e.f": [3]}) == {"a.b.c": [1], "a.d": [2], "e.f": [3]}
    settings = search_settings({}, "space.selection.balance=[0.9]")
    assert settings.space == {"auxiliary.0.weight": [0.1, 0.5], "selection.balance": [0.9]}


@pytest.mark.parametrize(
    "key", ["name", "storage.root", "execution.scoring_actors", "split.seed", "evaluation.seed"]
)
def test_a_key_that_cannot_be_searched_is_refused_by_name(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"space\.{key}: a search does not vary it, for"):
        search_settings({}, space={key: [1, 2]})


@pytest.mark.parametrize(("values", "message"), [([], "at least one value"), ([1, 2, 1], "stand there once")])
def test_values_of_a_key_must_be_there_and_differ(values: list[int], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"space\.selection\.total: .*{message}"):
        search_settings({}, space={"selection.total": values})


def test_an_objective_that_does_not_exist_and_a_space_without_keys_are_refused_together() -> None:
    with pytest.raises(ConfigError, match=r"(?s)space: .*objective: .*mean_of_anchor_accuracy"):
        search_settings({}, objective="accuracy", space={})


def test_all_wrong_values_of_a_space_are_told_at_once_before_anything_runs(run: dict[str, Any]) -> None:
    space = {"selection.balence": [1], "auxiliary.4.weight": [1.0], "a_tuning.epochs": [1, "many"]}
    with pytest.raises(ConfigError) as caught:
        base_run(search_settings(run, space=space))
    message = str(caught.value)
    assert "did you mean 'balance'?" in message
    assert "auxiliary.4.weight: '4' is not an index of a list of 1" in message
    assert "a_tuning.epochs='many'" in message and "a_tuning.epochs=1:" not in message


def test_values_that_only_clash_with_each_other_are_found_too(run: dict[str, Any]) -> None:
    space = {"b_tuning.betas": [[0.9, 0.999]], "selection.within": ["band"], "selection.band": [[0.9, 0.1]]}
    with pytest.raises(ConfigError, match=r"selection\.band"):
        base_run(search_settings(run, space=space))


def test_keys_of_run_are_put_over_the_base_file(tmp_path: Path, run: dict[str, Any]) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(json.dumps(run), encoding="utf-8")
    settings = search_settings(
        {"auxiliary": {"0": {"weight": 0.7}}, "a_tuning": {"max_steps": 9}}, base=str(file)
    )
    merged = load_settings(RunSettings, data=base_run(settings))
    assert (merged.auxiliary[0].weight, merged.auxiliary[0].name) == (0.7, "talks")
    assert (merged.a_tuning.max_steps, merged.a_tuning.samples_per_step) == (9, 8)
    assert merged.b_tuning.max_steps == 2


def test_a_search_and_its_run_need_different_names(run: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="name: 'small' is the name of the run too"):
        base_run(search_settings(run, name="small"))


def test_a_trial_is_the_run_with_its_keys_changed(run: dict[str, Any]) -> None:
    base = base_run(search_settings(run))
    trial = trial_settings(base, {"auxiliary.0.weight": 0.5, "selection.balance": 0.1})
    expected = load_settings(RunSettings, None, ["auxiliary.0.weight=0.5", "selection.balance=0.1"], base)
    assert trial == expected
    assert base["auxiliary"][0]["weight"] == 0.2


def test_what_a_trial_reads_must_be_there(run: dict[str, Any]) -> None:
    settings = search_settings(run, space={"events.paths": [run["events"]["paths"], ["nowhere.csv"]]})
    with pytest.raises(ConfigError, match=r"events\.paths: '/.*nowhere\.csv' matches no file"):
        check_trials(settings, base_run(settings))


def test_the_plan_counts_distinct_stages_and_writes_nothing(run: dict[str, Any]) -> None:
    settings = search_settings(run)
    lines = plan_search(settings, base_run(settings))
    rows = {words[0]: line for line in lines if (words := line.split()) and "to run" in line}
    for name, number, shared in (
        ("prepare", 1, "shared by all trials"),
        ("conversations", 1, "shared by all trials"),
        ("a_tune", 2, "3 trials each"),
        ("score", 2, "3 trials each"),
        ("select", 6, "one for each trial"),
        ("b_tune", 6, "one for each trial"),
        ("validate_ab_tuned", 6, "one for each trial"),
    ):
        assert rows[name].split()[1:] == f"{number}, to run {number}, to reuse 0; {shared}".split()
    assert any("at most 24 stages to run, instead of 42" in line for line in lines)
    assert sum("selection.balance=0.3" in line for line in lines) == 2
    assert not Path(run["storage"]["root"]).exists()


def test_planned_stages_are_the_same_exactly_if_they_are_made_alike(run: dict[str, Any]) -> None:
    def recipes(*overrides: str) -> dict[str, str]:
        pipeline = Pipeline(load_settings(RunSettings, None, overrides, run), planning=True)
        pipeline.validated("ab_tuned")
        return pipeline.recipes

    base = recipes()
    assert recipes("execution.scoring_actors=1", "name=other") == base
    changed = {
        "selection.balance=0.9": {"select", "b_tune", "validate_ab_tuned"},
        "b_tuning.epochs=3": {"b_tune", "validate_ab_tuned"},
        "evaluation.max_validation_samples=7": {"validate_ab_tuned"},
        "evaluation.max_samples=7": set(),
        "auxiliary.0.weight=0.9": {"a_tune", "score", "select", "b_tune", "validate_ab_tuned"},
        "split.seed=1": set(base) - {"conversations"},
    }
    for override, names in changed.items():
        other = recipes(override)
        assert {name for name in base if base[name] != other[name]} == names, override


def outcome(objective: float | None, status: str = "finished", *, parameters: dict[str, Any]) -> TrialOutcome:
    metrics = {"objective": objective, "anchor_accuracy": 0.5, "tail_macro_recall": None}
    return TrialOutcome(parameters=parameters, status=status, metrics=metrics if status == "finished" else {})


def test_the_winner_is_the_first_of_the_best_finished_trials() -> None:
    trials = [outcome(None, "failed", parameters={"a": 0})]
    trials += [outcome(value, parameters={"a": number}) for number, value in enumerate((0.4, 0.6, 0.6), 1)]
    winner = winner_of(trials)
    assert winner is not None and winner.parameters == {"a": 2}
    assert winner_of(trials[:1]) is None


def test_stages_are_counted_by_the_attempts_they_made_meanwhile(tmp_path: Path) -> None:
    def write(folder: StageFolder) -> StageResult:
        storage.write_replacing(folder.output / "x", b"x")
        return StageResult()

    def fail(folder: StageFolder) -> StageResult:
        raise DataError("no")

    old = run_stage(tmp_path, "old", 1, {}, {}, write)
    before = attempts_of_stages(tmp_path)
    new = run_stage(tmp_path, "new", 1, {}, {}, write)
    assert run_stage(tmp_path, "new", 1, {}, {}, write).reused
    with pytest.raises(DataError):
        run_stage(tmp_path, "bad", 1, {}, {}, fail)
    names = {output.manifest.stage: output.folder.parents[1].name for output in (old, new)}
    counts = times_run(before, attempts_of_stages(tmp_path), names.values())
    assert counts.pop(names["old"]) == 0
    assert counts.pop(names["new"]) == 1
    assert [(name.partition("-")[0], number) for name, number in counts.items()] == [("bad", 1)]


def test_the_summary_holds_trials_stages_and_a_winner_that_runs(tmp_path: Path, run: dict[str, Any]) -> None:
    base = base_run(search_settings(run))
    failed = TrialOutcome(parameters={"selection.balance": 0.3}, status="failed", error="too hot")
    trials = [failed, outcome(0.25, parameters={"selection.balance": 0.1})]
    write_summary(tmp_path / "grid", base, trials, {"a_tune-01": 1})
    summary = json.loads((tmp_path / "grid" / "summary.json").read_text())
    metrics = {"objective": 0.25, "anchor_accuracy": 0.5, "tail_macro_recall": None}
    assert summary["winner"] == {"parameters": {"selection.balance": 0.1}, "metrics": metrics}
    assert summary["stages"] == {"a_tune-01": 1}
    assert [trial["status"] for trial in summary["trials"]] == ["failed", "finished"]
    assert (summary["trials"][0]["error"], summary["trials"][1]["error"]) == ("too hot", None)
    winner = load_settings(RunSettings, tmp_path / "grid" / "winner.yaml")
    assert winner == trial_settings(base, {"selection.balance": 0.1})

    write_summary(tmp_path / "grid", base, [failed], {})
    assert json.loads((tmp_path / "grid" / "summary.json").read_text())["winner"] is None
    assert not (tmp_path / "grid" / "winner.yaml").exists()


def test_the_reason_of_a_failed_trial_is_the_projects_own_error() -> None:
    ours = DataError("the log is empty")
    wrapped = RayTaskError("trainable", "Traceback …\nDataError: the log is empty", ours)
    assert isinstance(wrapped.as_instanceof_cause(), DataError)
    assert reason(wrapped) == reason(wrapped.as_instanceof_cause()) == "the log is empty"
    assert reason(RuntimeError("Traceback\nMemoryError: 1 GB")) == "MemoryError: 1 GB"
    assert reason(RuntimeError()) == "RuntimeError"


def test_the_objective_is_the_mean_of_anchor_accuracy_and_tail_macro_recall(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    for number in range(2):
        write_part(tmp_path / "parts" / f"timelines-{number:05d}.arrow", number, [40, 30, 20])
    (tmp_path / "vocabulary.json").write_text(vocabulary().to_json())
    (tmp_path / "prompt.json").write_text(prompt_tokens(0).to_json())
    log = PreparedLog(tmp_path, PromptConfig())
    rows = [np.arange(5, 85), np.arange(0, 90, 2)]
    targets = np.concatenate([part.behavior[chosen] for part, chosen in zip(log.parts, rows, strict=True)])
    scores = np.random.default_rng(5).normal(size=(len(targets), 5)).astype(np.float32)
    found = validation_metrics(log, rows, scores)

    predicted = scores.argmax(axis=1)
    anchors = targets < 2
    accuracy = np.mean(predicted[anchors] == targets[anchors])
    recalls = [np.mean(predicted[targets == behavior] == behavior) for behavior in (2, 3, 4)]
    assert min(np.bincount(targets)) >= 10
    assert found["anchor_accuracy"] == pytest.approx(accuracy)
    assert found["tail_macro_recall"] == pytest.approx(np.mean(recalls))
    assert found["objective"] == pytest.approx((accuracy + np.mean(recalls)) / 2)
    with pytest.raises(DataError, match=r"split\.validation"):
        validation_metrics(log, [rows[0][:0], rows[1][:0]], scores[:0])
