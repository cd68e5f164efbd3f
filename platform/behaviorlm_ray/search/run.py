"""A search from its settings to its summary, winner and report; and its plan."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from behaviorlm.errors import ModelError
from behaviorlm_ray.console.screen import screen
from behaviorlm_ray.pipeline.input_checks import check_inputs
from behaviorlm_ray.pipeline.run import open_run
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.report.provenance import PLACES
from behaviorlm_ray.report.results import WrittenReport
from behaviorlm_ray.search.cost import StageCosts
from behaviorlm_ray.search.decisions import Outcome
from behaviorlm_ray.search.findings import (
    RETRY_FAILED,
    SUMMARY,
    WINNER,
    Findings,
    budget_ended,
    check_for_winner,
    summarized,
    trials_of,
    write_winner,
)
from behaviorlm_ray.search.ledger import Ledger
from behaviorlm_ray.search.objective import ANCHOR, ObjectiveSettings, described_metrics
from behaviorlm_ray.search.report import REPORT, write_search_report
from behaviorlm_ray.search.settings import SearchSettings, sure_trials, trial_settings, winning_run
from behaviorlm_ray.search.space import describe
from behaviorlm_ray.search.sweep import TaskRow, rules_of, run_tasks
from behaviorlm_ray.search.trial import measure_arm, open_trial, planned_stages, run_winner
from behaviorlm_ray.stages.manifests import fingerprint
from behaviorlm_ray.storage import Location, location, write_replacing


def search(settings: SearchSettings, run: Mapping[str, Any]) -> WrittenReport:
    """Run, or go on with, a search; write summary.json, winner.yaml and report.html.

    run: `base_run(settings)`. Needs an initialized Ray with the dashboard on. A trial that fails is recorded with its
    error and ends nothing. After the summary: ClusterError if no trial was tuned whole,
    ModelError if none reaches the floor, KeyboardInterrupt if it was interrupted. StorageError if storage failed.
    """
    limit = settings.budget.wall_seconds
    deadline = None if limit is None else time.monotonic() + limit
    folder = search_folder(settings, run)
    base = open_trial(trial_settings(run, {}), folder)
    ledger = Ledger(folder / f"tasks-{_identity(settings, run, base.run.inputs.hashes())[:12]}")
    costs = StageCosts(base.run.settings.storage.place)
    _forget(ledger, settings, costs)
    floor, reference = floor_of(settings.objective, lambda arm: measure_arm(base, arm))
    row = TaskRow(rules_of(settings, floor, costs, reference), ledger, deadline)
    run_tasks(settings, run, row)
    trials = trials_of(row.tasks, ledger.outcomes, settings.scheduler.number_of_rungs, costs)
    found = Findings(settings, trials, row.outcomes(), costs, floor, reference, row.ending())
    summary, best = summarized(found), found.best
    winner = None if best is None else winning_run(run, best.parameters, settings.winner_name)
    write_winner(folder, winner)
    report = _written(settings, summary, folder)
    _tell(found, summary)
    assert best is not None and winner is not None
    lines = [f"winner: {describe(best.parameters)}: {described_metrics(best.metrics)} on validation"]
    if settings.evaluate_winner and found.ending == "time":
        lines.append(
            "not measured on test: this is done once, when the search has ended; the same command goes on with it"
        )
    elif settings.evaluate_winner:
        summary["winner"]["test"], told = run_winner(winner)
        lines += told
        report = _written(settings, summary, folder)
    return WrittenReport(report, lines)


def _written(settings: SearchSettings, summary: Mapping[str, Any], folder: Location) -> Location:
    """Write summary.json and the report. Returns the report's path."""
    write_replacing(folder / SUMMARY, json.dumps(summary, indent=1).encode())
    return write_search_report(settings, summary, folder)


def _tell(found: Findings, summary: Mapping[str, Any]) -> None:
    """Say what came out besides the winner. Raises as `search` does after the summary."""
    for numbers in summary["alike"]:
        named = ", ".join(str(number + 1) for number in numbers)
        screen().says(f"trials {named} came to the same model: what they differ in changed nothing")
    if found.ending == "interrupted":
        raise KeyboardInterrupt
    failed = sum(trial.status == "failed" for trial in found.trials)
    if failed:
        screen().says(f"{failed} of {len(found.trials)} trials failed; {RETRY_FAILED}")
    if found.ending in ("budget", "time"):
        screen().says(budget_ended(found))
    check_for_winner(found)


def plan_search(settings: SearchSettings, run: Mapping[str, Any]) -> list[str]:
    """Lines that say which trials there are and how many stages they would run. Raises errors of the inputs."""
    check_trials(settings, run, is_written=False)
    algorithm, scheduler = settings.algorithm, settings.scheduler
    lines = [f"search {settings.name}: plan (nothing was run or written)", ""]
    if algorithm.name == "grid":
        lines += _planned_grid(settings, run)
    else:
        lines.append(f"trials: {settings.budget.trials}")
        lines.append(f"  chosen by {algorithm.name} (seed {algorithm.seed}) as the search goes on")
    at = [f"1/{scheduler.reduction ** (scheduler.rungs - rung)}" for rung in range(1, scheduler.rungs)]
    rungs = f", rungs at {', '.join(at)} and the whole" if scheduler.name == "asha" else ""
    objective = settings.objective
    floor = "" if objective.floor is None else f", anchor accuracy at least {objective.described_floor}"
    return [
        *lines,
        "",
        f"scheduler: {scheduler.name}{rungs}",
        f"objective: {objective.name}{floor}, on validation samples",
        f"outputs: {search_folder(settings, run)}: {SUMMARY}, {WINNER}, {REPORT}",
    ]


def _planned_grid(settings: SearchSettings, run: Mapping[str, Any]) -> list[str]:
    """The trials of a grid, and how many of each stage they need."""
    trials = sure_trials(settings)
    lines = [f"trials: {len(trials)}"]
    stages: dict[str, dict[str, bool]] = {}
    for number, parameters in enumerate(trials, 1):
        lines.append(f"  {number}. {describe(parameters)}")
        for name, recipe, is_there in planned_stages(run, parameters):
            stages.setdefault(name, {})[recipe] = is_there
    lines += ["", f"stages: distinct ones that {len(trials)} trials need, all tuned whole"]
    all_to_run = 0
    for name, finished in stages.items():
        distinct, reused = len(finished), sum(finished.values())
        all_to_run += distinct - reused
        shared = "shared by all trials" if distinct == 1 else f"{len(trials) / distinct:g} trials each"
        shared = "one for each trial" if distinct == len(trials) > 1 else shared
        lines.append(f"  {name:<22} {distinct:>4}, to run {distinct - reused}, to reuse {reused}; {shared}")
    unshared = len(trials) * len(stages)
    return [*lines, f"  at most {all_to_run} stages to run, instead of {unshared} with nothing shared"]


def check_trials(settings: SearchSettings, run: Mapping[str, Any], *, is_written: bool) -> None:
    """Look at everything that trials read from outside, each once. Raises ConfigError."""
    different: dict[str, RunSettings] = {}
    for parameters in sure_trials(settings):
        trial = trial_settings(run, parameters)
        sources = [source.model_copy(update={"weight": 0.0, "ratio": 0.0}) for source in trial.auxiliary]
        different.setdefault(repr((trial.events, trial.model, sources)), trial)
    for trial in different.values():
        check_inputs(open_run(trial), is_written=is_written)


def search_folder(settings: SearchSettings, run: Mapping[str, Any]) -> Location:
    """Where the search keeps what it finds."""
    return location(run["storage"]["root"], run["storage"]["patience_seconds"]) / settings.name


def _identity(settings: SearchSettings, run: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """What makes it the same search, to be gone on with: not how widely it runs, nor its budget."""
    wanted = settings.model_dump(mode="json", include={"space", "algorithm", "scheduler", "objective"}) | {
        "order": list(settings.space),
        "run": {key: value for key, value in run.items() if key not in PLACES},
    }
    return fingerprint("search", 1, wanted, inputs)


def _forget(ledger: Ledger, settings: SearchSettings, costs: StageCosts) -> None:
    """Leave out of the ledger what has to run again: what lost its stages, and failures if that is asked for."""
    for number, outcome in sorted(ledger.outcomes.items()):
        lost = not costs.are_there(outcome)
        if lost or (settings.retry_failed and outcome.error is not None):
            why = "its stages are gone" if lost else "it failed"
            screen().says(
                f"task {number} (trial {outcome.task.trial + 1}) and what followed run again: {why}"
            )
            ledger.forget(number)
            return


def floor_of(
    objective: ObjectiveSettings, measured: Callable[[str], Outcome]
) -> tuple[float | None, Outcome | None]:
    """The least anchor accuracy, and how the arm did that it is relative to, if there are such. Raises ModelError."""
    if objective.floor is None or objective.floor_arm is None:
        return objective.floor, None
    screen().says(f"floor: {objective.floor_arm} is measured first")
    reference = measured(objective.floor_arm)
    anchor = reference.metrics[ANCHOR]
    if anchor is None:
        raise ModelError(
            f"objective.floor_arm: no validation sample of {objective.floor_arm} has an anchor; give more validation "
            "samples (split, evaluation.max_validation_samples)"
        )
    return anchor + objective.floor, reference
