"""Searches: what is refused before anything runs, what the plan counts, how trials become a summary and a winner."""

import json
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import RayTaskError

from behaviorlm.config import load_settings
from behaviorlm.errors import ConfigError, DataError, StorageError
from behaviorlm_ray.pipeline.run import open_run
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.pipeline.validate import validate
from behaviorlm_ray.search.cost import StageCosts
from behaviorlm_ray.search.decisions import Outcome, Task
from behaviorlm_ray.search.findings import (
    Findings,
    RungMetrics,
    TrialOutcome,
    alike,
    summarized,
    trials_of,
    winner_of,
    write_winner,
)
from behaviorlm_ray.search.ledger import Ledger
from behaviorlm_ray.search.objective import ObjectiveSettings
from behaviorlm_ray.search.run import check_trials, plan_search
from behaviorlm_ray.search.settings import SearchSettings, base_run, trial_settings, winning_run
from behaviorlm_ray.search.trial import reason
from behaviorlm_ray.stages.attempts import StageFolder, StageResult
from behaviorlm_ray.stages.stage import in_order
from behaviorlm_ray.storage import Location, S3Location, write_replacing
from tests.platform.single_stage import run_stage
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


def test_a_nested_space_replaces_a_dotted_key() -> None:
    settings = search_settings({}, "space.selection.balance=[0.9]")
    assert {key: value.choice for key, value in settings.space.items()} == {
        "auxiliary.0.weight": [0.1, 0.5],
        "selection.balance": [0.9],
    }


@pytest.mark.parametrize(
    "key",
    [
        "name",
        "storage.root",
        "execution.scoring_actors",
        "tracking.mlflow",
        "split.seed",
        "few_shot.tail_samples",
        "evaluation.seed",
        "events.paths",
        "vocabulary.anchor_threshold",
        "prompt.min_history",
    ],
)
def test_a_key_that_cannot_be_searched_is_refused_by_name(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"space\.{key}: a search does not vary it, for"):
        search_settings({}, space={key: [1, 2]})


def test_an_objective_that_does_not_exist_and_a_space_without_keys_are_refused_together() -> None:
    with pytest.raises(ConfigError, match=r"(?s)space: .*objective\.name: .*'mean' or 'tail'"):
        search_settings({}, objective="multi", space={})


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


def test_the_base_of_a_search_may_lie_on_s3(s3_root: S3Location, run: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"base: there is no file nowhere\.yaml"):
        base_run(search_settings({}, base="nowhere.yaml"))
    place = s3_root / "run.yaml"
    with pytest.raises(ConfigError, match=f"base: there is no object {place}"):
        base_run(search_settings({}, base=str(place)))
    write_replacing(place, json.dumps(run).encode())
    assert base_run(search_settings({}, base=str(place))) == base_run(search_settings(run))


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
    talks = run["auxiliary"][0]["paths"]
    settings = search_settings(run, space={"auxiliary.0.paths": [talks, ["nowhere.jsonl"]]})
    with pytest.raises(
        ConfigError, match=r"auxiliary source 'talks': paths: nothing found at /.*nowhere\.jsonl"
    ):
        check_trials(settings, base_run(settings), is_written=True)


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
        goal = validate(open_run(load_settings(RunSettings, None, overrides, run)), "ab_tuned")
        return {stage.name: stage.recipe for stage in in_order([goal])}

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


def trial(
    number: int,
    anchor: float = 0.5,
    tail: float = 0.2,
    status: str = "finished",
    rungs: tuple[float, ...] = (),
    **parameters: Any,
) -> TrialOutcome:
    metrics = {"objective": (anchor + tail) / 2, "anchor_accuracy": anchor, "tail_macro_recall": tail}
    return TrialOutcome.model_validate(
        {
            "trial": number,
            "parameters": parameters,
            "status": status,
            "metrics": {} if status == "failed" else metrics,
            "rungs": [
                RungMetrics(rung=rung, steps=rung, metrics={"objective": value})
                for rung, value in enumerate(rungs, 1)
            ],
        }
    )


def test_the_winner_is_the_first_of_the_best_trials_that_were_tuned_whole() -> None:
    trials = [trial(0, status="failed"), trial(1, 0.9, 0.9, status="stopped"), trial(2, 0.4, 0.2)]
    trials += [trial(3, 0.6, 0.2), trial(4, 0.5, 0.3)]
    winner = winner_of(trials, ObjectiveSettings())
    assert winner is not None and winner.trial == 3
    assert winner_of(trials[:2], ObjectiveSettings()) is None


def test_under_a_floor_the_best_tail_among_those_that_reach_it_wins() -> None:
    trials = [trial(0, 0.6, 0.2), trial(1, 0.55, 0.4), trial(2, 0.5, 0.6)]
    tail = ObjectiveSettings(name="tail", floor=0.55)
    winner = winner_of(trials, tail, 0.55)
    assert winner is not None and winner.trial == 1
    assert winner_of(trials, tail, 0.7) is None


def test_trials_that_came_to_the_same_model_are_named() -> None:
    shared = {
        "select": "select-1",
        "validate_step_5": "validate_step_5-1",
        "validate_ab_tuned": "validate_ab_tuned-1",
    }
    other = shared | {"validate_ab_tuned": "validate_ab_tuned-2"}
    stages = [shared, other, shared | {"select": "select-2"}, {}, {}]
    trials = [trial(number).model_copy(update={"stages": each}) for number, each in enumerate(stages)]
    assert alike(trials) == [[0, 2]]


def committed(root: Location, name: str, cost: dict[str, float], rows: dict[str, int] | None = None) -> str:
    """A finished stage; the name of its folder."""

    def write(folder: StageFolder) -> StageResult:
        write_replacing(folder.output / "x", name.encode())
        return StageResult(rows=rows or {}, cost=cost)

    return run_stage(root, name, 1, {}, {}, write).folder.parents[1].name


def test_cost_counts_each_stage_once_and_unshared_each_trial_whole(tmp_path: Path) -> None:
    shared = {
        "prepare": committed(tmp_path, "prepare", {}),
        "a_tune": committed(
            tmp_path, "a_tune", {"tokens": 100, "tokens_continued": 0}, {"steps": 9, "samples": 200}
        ),
        "score": committed(tmp_path, "score", {"tokens": 50}),
    }
    rung = committed(
        tmp_path, "b_tune_step_3", {"tokens": 30, "tokens_continued": 0}, {"steps": 3, "samples": 30}
    )
    whole = committed(tmp_path, "b_tune", {"tokens": 60, "tokens_continued": 30}, {"steps": 9, "samples": 60})
    first, last = (
        committed(tmp_path, "validate_step_3", {"tokens": 7}),
        committed(tmp_path, "validate_ab_tuned", {"tokens": 7}),
    )
    task = Task(number=0, trial=0, rung=0, parameters={})
    stopped = Outcome(
        task=task,
        steps=3,
        steps_of_whole=9,
        stages=shared | {"b_tune_step_3": rung, "validate_step_3": first},
    )
    finished = Outcome(
        task=task.model_copy(update={"number": 1, "rung": 1}),
        steps=9,
        steps_of_whole=9,
        stages=shared | {"b_tune": whole, "validate_ab_tuned": last},
    )
    costs = StageCosts(tmp_path)
    assert costs.spent([stopped, finished]) == 100 + 50 + 30 + 60 + 7 + 7
    assert costs.whole(stopped) == costs.whole(finished) == 100 + 50 + 90 + 7


def test_a_ledger_keeps_how_tasks_ended_the_first_that_is_written(root: Location) -> None:
    task = Task(number=0, trial=0, rung=0, parameters={"a": [1, None, "x"]})
    ledger = Ledger(root / "tasks")
    ledger.record(Outcome(task=task, error="no"))
    ledger.record(Outcome(task=task.model_copy(update={"number": 1}), metrics={"objective": 0.5}))
    again = Ledger(root / "tasks")
    again.record(Outcome(task=task, error="another"))
    assert again.outcomes == ledger.outcomes
    assert again.outcomes[0].error == "no"
    later = task.model_copy(update={"number": 2})
    assert again.decide(later) == later
    assert again.decide(later.model_copy(update={"trial": 7})) == later
    again.forget(1)
    assert (Ledger(root / "tasks").outcomes.keys(), Ledger(root / "tasks").decided) == ({0}, {})
    again.forget(0)
    assert Ledger(root / "tasks").outcomes == {}
    write_replacing(root / "tasks" / "task-000000.json", b"{")
    with pytest.raises(StorageError, match=r"task-000000\.json is damaged; remove it"):
        Ledger(root / "tasks")


def test_the_summary_holds_trials_stages_and_a_winner_that_runs(tmp_path: Path, run: dict[str, Any]) -> None:
    settings = search_settings(run)
    base = base_run(settings)
    tasks = [
        Task(number=n, trial=n, rung=0, parameters={"selection.balance": b}) for n, b in enumerate((0.3, 0.1))
    ]
    metrics = {"objective": 0.25, "anchor_accuracy": 0.5, "tail_macro_recall": None}
    outcomes = {0: Outcome(task=tasks[0], error="too hot"), 1: Outcome(task=tasks[1], metrics=metrics)}
    costs = StageCosts(tmp_path)
    trials = trials_of(tasks, outcomes, 1, costs)
    found = Findings(settings, trials, list(outcomes.values()), costs)
    winner = winning_run(base, trials[1].parameters, "grid_winner")
    folder = tmp_path / "grid"
    summary = json.loads(json.dumps(summarized(found)))
    write_winner(folder, winner)
    assert summary["winner"] == {"trial": 1, "parameters": {"selection.balance": 0.1}, "metrics": metrics}
    assert [each["status"] for each in summary["trials"]] == ["failed", "finished"]
    assert (summary["trials"][0]["error"], summary["trials"][1]["error"]) == ("too hot", None)
    written = load_settings(RunSettings, folder / "winner.yaml")
    assert written == winner
    assert written.selection.balance == 0.1 and written.name == "grid_winner"

    without = Findings(settings, trials[:1], [outcomes[0]], costs)
    write_winner(folder, None)
    assert summarized(without)["winner"] is None
    assert not (folder / "winner.yaml").exists()


def test_the_reason_of_a_failed_trial_is_the_projects_own_error() -> None:
    ours = DataError("the log is empty")
    wrapped = RayTaskError("trainable", "Traceback …\nDataError: the log is empty", ours)
    assert isinstance(wrapped.as_instanceof_cause(), DataError)
    assert reason(wrapped) == reason(wrapped.as_instanceof_cause()) == "the log is empty"
    assert reason(RuntimeError("Traceback\nMemoryError: 1 GB")) == "MemoryError: 1 GB"
    assert reason(RuntimeError()) == "RuntimeError"
