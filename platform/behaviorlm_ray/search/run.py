"""A search from its settings to its summary, winner and report; and its plan."""

import json
import time
from collections.abc import Mapping
from typing import Any

from behaviorlm.errors import ModelError
from behaviorlm_ray.pipeline.input_checks import check_inputs
from behaviorlm_ray.pipeline.run import Run, open_run
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.pipeline.validate import validate
from behaviorlm_ray.report.results import write_results
from behaviorlm_ray.search.cost import StageCosts, attempts_of_stages
from behaviorlm_ray.search.decisions import Outcome
from behaviorlm_ray.search.endings import RETRY_FAILED, budget_ended, check_budget, check_for_winner
from behaviorlm_ray.search.ledger import Ledger
from behaviorlm_ray.search.objective import ANCHOR, METRICS, read_floor
from behaviorlm_ray.search.report import write_search_report
from behaviorlm_ray.search.settings import SearchSettings, sure_trials, trial_settings
from behaviorlm_ray.search.summary import (
    SUMMARY,
    WINNER,
    WINNING_ARM,
    trials_of,
    winner_of,
    winning_run,
    write_json,
    write_summary,
)
from behaviorlm_ray.search.sweep import describe, described_metrics, run_tasks
from behaviorlm_ray.search.trial import Trial
from behaviorlm_ray.stages.manifests import fingerprint
from behaviorlm_ray.stages.run_record import RunRecord
from behaviorlm_ray.storage import Location, location, read_text

ENDPOINT = {
    "anchor_accuracy": ("anchor", "accuracy"),
    "tail_macro_recall": ("tail", "macro_recall_at_least_10"),
}


def search(settings: SearchSettings, run: Mapping[str, Any]) -> Location:
    """Run, or go on with, a search; write summary.json, winner.yaml and report.html. Returns the report's path.

    run: `base_run(settings)`. Needs an initialized Ray with the dashboard on. A trial that fails is recorded with its
    error and ends nothing. After the summary: ClusterError if no trial was tuned whole or the budget is below one,
    ModelError if none reaches the floor, KeyboardInterrupt if it was interrupted. StorageError if storage failed.
    """
    limit = settings.budget.wall_seconds
    deadline = None if limit is None else time.monotonic() + limit
    root, folder = search_root(run), search_folder(settings, run)
    base = open_run(trial_settings(run, {}))
    ledger = Ledger(folder / f"tasks-{_identity(settings, run, base)[:12]}")
    before = ledger.attempts_before(attempts_of_stages(root))
    costs = StageCosts(root, _gpus(base.settings))
    _forget(ledger, settings, costs)
    reference = _reference(settings, base)
    floor = _floor(settings, reference)
    ran = run_tasks(settings, run, ledger, floor, costs, reference, deadline)
    tasks = ran.tasks
    outcomes = [ledger.outcomes[task.number] for task in tasks if task.number in ledger.outcomes]
    rungs = settings.scheduler.number_of_rungs
    trials = trials_of(tasks, ledger.outcomes, rungs, costs)
    best = winner_of(trials, settings.objective, floor)
    winner = None if best is None else winning_run(run, best.parameters, settings.winner_name)
    summary = write_summary(
        folder,
        root=root,
        trials=trials,
        outcomes=outcomes,
        costs=costs,
        before=before,
        reference=reference,
        objective=settings.objective,
        floor=floor,
        rungs=rungs,
        winner=winner,
        ending=ran.ending,
    )
    write_search_report(settings, summary, folder)
    for numbers in summary["alike"]:
        named = ", ".join(str(number + 1) for number in numbers)
        print(f"trials {named} came to the same model: what they differ in changed nothing")
    if ran.ending == "interrupted":
        raise KeyboardInterrupt
    failed = sum(trial.status == "failed" for trial in trials)
    if failed:
        print(f"{failed} of {len(trials)} trials failed; {RETRY_FAILED}")
    if ran.ending in ("budget", "time"):
        print(budget_ended(settings, trials, ran.ending))
    check_for_winner(settings, trials, outcomes, floor, summary)
    check_budget(settings.budget, outcomes, trials, costs)
    assert best is not None and winner is not None
    print(f"winner: {describe(best.parameters)}: {described_metrics(best.metrics)} on validation")
    if settings.evaluate_winner and ran.ending == "time":
        print(
            "not measured on test: this is done once, when the search has ended; the same command goes on with it"
        )
    elif settings.evaluate_winner:
        summary["winner"]["test"] = _evaluated(winner)
        write_json(folder / SUMMARY, summary)
    return write_search_report(settings, summary, folder)


def plan_search(settings: SearchSettings, run: Mapping[str, Any]) -> list[str]:
    """Lines that say which trials there are and how many stages they would run. Raises errors of the inputs."""
    check_trials(settings, run, is_written=False)
    known = list(sure_trials(settings)) if settings.algorithm.name == "grid" else []
    stages: dict[str, dict[str, bool]] = {}
    number_of_trials = len(known) or settings.budget.trials
    lines = [f"search {settings.name}: plan (nothing was run or written)", "", f"trials: {number_of_trials}"]
    for number, parameters in enumerate(known, 1):
        trial = open_run(trial_settings(run, parameters))
        for stage, plan in trial.runner().plan(validate(trial, "ab_tuned")):
            stages.setdefault(plan.name, {})[stage.recipe] = plan.output is not None
        lines.append(f"  {number}. {describe(parameters)}")
    if known:
        lines += _stage_lines(stages, len(known))
    else:
        lines.append(
            f"  chosen by {settings.algorithm.name} (seed {settings.algorithm.seed}) as the search goes on"
        )
    scheduler, budget = settings.scheduler, settings.budget.model_dump(exclude_none=True)
    shares = [f"1/{scheduler.reduction ** (scheduler.rungs - rung)}" for rung in range(1, scheduler.rungs)]
    at = shares if scheduler.at is None else [f"{value:g}" for value in scheduler.at]
    rungs = f", rungs at {', '.join(at)} ({scheduler.unit}) and the whole" if scheduler.name == "asha" else ""
    lines += [
        "",
        f"algorithm: {settings.algorithm.name}",
        f"scheduler: {scheduler.name}{rungs}",
        f"budget: {', '.join(f'{key} {value:g}' for key, value in budget.items()) or 'none'}",
        f"objective: {settings.objective.name}"
        + (f", anchor accuracy at least {settings.objective.floor}" if settings.objective.floor else "")
        + ", on validation samples",
        f"trials at a time: {settings.max_concurrent_trials}",
        f"outputs: {search_folder(settings, run)}: {SUMMARY}, {WINNER}, report.html",
    ]
    return lines


def check_trials(settings: SearchSettings, run: Mapping[str, Any], *, is_written: bool) -> None:
    """Look at everything that trials read from outside, each once. Raises ConfigError."""
    checked = set()
    for parameters in sure_trials(settings):
        trial = trial_settings(run, parameters)
        read = (
            trial.events,
            trial.model,
            tuple(source.model_copy(update={"weight": 0.0, "ratio": 0.0}) for source in trial.auxiliary),
        )
        key = repr(read)
        if key not in checked:
            checked.add(key)
            check_inputs(open_run(trial), is_written=is_written)


def search_root(run: Mapping[str, Any]) -> Location:
    """The folder of all runs and searches."""
    return location(run["storage"]["root"], run["storage"]["patience_seconds"])


def search_folder(settings: SearchSettings, run: Mapping[str, Any]) -> Location:
    """Where the search keeps what it finds."""
    return search_root(run) / settings.name


def _stage_lines(stages: Mapping[str, Mapping[str, bool]], trials: int) -> list[str]:
    lines = ["", f"stages: distinct ones that {trials} trials need, all tuned whole"]
    for name, finished in stages.items():
        reused = sum(finished.values())
        shared = "shared by all trials" if len(finished) == 1 else f"{trials / len(finished):g} trials each"
        shared = "one for each trial" if len(finished) == trials > 1 else shared
        lines.append(
            f"  {name:<22} {len(finished):>4}, to run {len(finished) - reused}, to reuse {reused}; {shared}"
        )
    to_run = sum(not is_finished for finished in stages.values() for is_finished in finished.values())
    return [
        *lines,
        f"  at most {to_run} stages to run, instead of {trials * len(stages)} with nothing shared",
    ]


def _identity(settings: SearchSettings, run: Mapping[str, Any], base: Run) -> str:
    """What makes it the same search, to be gone on with: not how widely it runs, nor its budget."""
    wanted = {
        "space": {key: value.model_dump(mode="json") for key, value in settings.space.items()},
        "order": list(settings.space),
        "algorithm": settings.algorithm.model_dump(mode="json"),
        "scheduler": settings.scheduler.model_dump(mode="json"),
        "objective": settings.objective.model_dump(mode="json"),
        "run": {key: value for key, value in run.items() if key not in ("name", "storage", "execution")},
    }
    return fingerprint("search", 1, wanted, base.inputs.hashes())


def _forget(ledger: Ledger, settings: SearchSettings, costs: StageCosts) -> None:
    """Leave out of the ledger what has to run again: what lost its stages, and failures if that is asked for."""
    for number in sorted(ledger.outcomes):
        outcome = ledger.outcomes.get(number)
        if outcome is None:
            return
        lost = not costs.are_there(outcome)
        if lost or (settings.retry_failed and outcome.error is not None):
            why = "its stages are gone" if lost else "it failed"
            print(f"task {number} (trial {outcome.task.trial + 1}) and what followed run again: {why}")
            ledger.forget(number)


def _reference(settings: SearchSettings, base: Run) -> Outcome | None:
    """The arm that the floor is relative to, measured on validation; None without one."""
    arm = None if settings.objective.floor is None else read_floor(settings.objective.floor).arm
    if arm is None:
        return None
    print(f"floor: {arm} is measured first")
    run = base.for_arm(arm)
    check_inputs(run, is_written=True)
    trial = Trial(run, run.runner(RunRecord(base.settings.storage.place / settings.name)))
    validated = trial.runner.run(validate(run, base.settings.all_arms[arm].tuning))
    metrics = {name: validated.manifest.metrics[name] for name in METRICS}
    task = {"number": -1, "trial": -1, "rung": 0, "parameters": {}}
    return Outcome.model_validate({"task": task, "metrics": metrics, "stages": trial.stages})


def _floor(settings: SearchSettings, reference: Outcome | None) -> float | None:
    if settings.objective.floor is None:
        return None
    floor = read_floor(settings.objective.floor)
    if reference is None:
        return floor.change
    anchor = reference.metrics[ANCHOR]
    if anchor is None:
        raise ModelError(
            f"objective.floor: {settings.objective.floor!r} is relative to the anchor accuracy of {floor.arm}, and no "
            "validation sample has an anchor; give more validation samples (split, evaluation.max_validation_samples)"
        )
    return anchor + floor.change


def _gpus(settings: RunSettings) -> tuple[int, int]:
    execution = settings.execution
    return (execution.tuning.workers, execution.scoring_actors) if execution.tuning.use_gpu else (0, 0)


def _evaluated(winner: RunSettings) -> dict[str, Any]:
    """The winner's own run to the end: its endpoint on test, and where its report is."""
    run = open_run(winner)
    check_inputs(run, is_written=True)
    written = write_results(run, run.runner())
    print("\n".join(written.lines))
    report = written.place
    measured = json.loads(read_text(report.parent / "results.json"))["models"][WINNING_ARM]
    found = {name: measured[group][metric] for name, (group, metric) in ENDPOINT.items()}
    return found | {"report": str(report)}
