"""Running a search: a grid of trials on Ray Tune, told as they end, summarized in the end."""

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import tune
from ray.exceptions import RayTaskError
from ray.tune.result_grid import ResultGrid

from behaviorlm.errors import BehaviorLMError, ClusterError
from behaviorlm_ray.pipeline import Pipeline
from behaviorlm_ray.search.settings import Parameters, SearchSettings, trial_parameters, trial_settings
from behaviorlm_ray.search.summary import (
    SUMMARY,
    TrialOutcome,
    attempts_of_stages,
    times_run,
    write_summary,
)
from behaviorlm_ray.search.trial import METRICS, OBJECTIVE, trainable

OVERRIDES = "overrides"


def search(settings: SearchSettings, run: Mapping[str, Any]) -> Path:
    """Run all trials and write summary.json and winner.yaml. Returns the summary's path.

    run: `base_run(settings)`. Needs an initialized Ray with the dashboard on. A trial that fails is recorded with its
    error and ends nothing; ClusterError, after the summary, if none finishes.
    """
    root = search_root(run)
    folder = root / settings.name
    before = attempts_of_stages(root)
    grid = trial_parameters(settings.space)
    tuner = tune.Tuner(
        trainable,
        param_space={"run": dict(run), OVERRIDES: tune.grid_search(grid)},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=settings.max_concurrent_trials,
            trial_dirname_creator=lambda trial: f"trial_{trial.trial_id}",
        ),
        # A name that was used before would go on with that search's trials.
        run_config=tune.RunConfig(
            name=uuid.uuid4().hex,
            storage_path=str(folder / "tune"),
            verbose=0,
            callbacks=[_Progress(len(grid))],
        ),
    )
    trials = _outcomes(tuner.fit(), grid)
    used = (stage for trial in trials for stage in trial.stages.values())
    winner = write_summary(folder, run, trials, times_run(before, attempts_of_stages(root), used))
    if winner is None:
        errors = dict.fromkeys(trial.error for trial in trials if trial.error)
        raise ClusterError("\n".join([f"no trial finished; see {folder / SUMMARY}", *map(str, errors)]))
    print(f"winner: {describe(winner.parameters)}: {described_metrics(winner.metrics)} on validation")
    return folder / SUMMARY


def plan_search(settings: SearchSettings, run: Mapping[str, Any]) -> list[str]:
    """Lines that say which trials there are and how many stages they would run. Raises errors of the inputs."""
    check_trials(settings, run)
    grid = trial_parameters(settings.space)
    stages: dict[str, dict[str, bool]] = {}
    lines = [f"search {settings.name}: plan (nothing was run or written)", "", f"trials: {len(grid)}"]
    for number, parameters in enumerate(grid, 1):
        pipeline = Pipeline(trial_settings(run, parameters), planning=True)
        pipeline.validated("ab_tuned")
        for plan in pipeline.plans:
            stages.setdefault(plan.name, {})[pipeline.recipes[plan.name]] = plan.output is not None
        lines.append(f"  {number}. {describe(parameters)}")
    lines += ["", f"stages: distinct ones that {len(grid)} trials need"]
    for name, finished in stages.items():
        reused = sum(finished.values())
        shared = (
            "shared by all trials" if len(finished) == 1 else f"{len(grid) / len(finished):g} trials each"
        )
        shared = "one for each trial" if len(finished) == len(grid) > 1 else shared
        lines.append(
            f"  {name:<22} {len(finished):>4}, to run {len(finished) - reused}, to reuse {reused}; {shared}"
        )
    to_run = sum(not is_finished for finished in stages.values() for is_finished in finished.values())
    unshared = len(grid) * len(stages)
    lines += [
        f"  at most {to_run} stages to run, instead of {unshared} with nothing shared",
        "",
        f"objective: {settings.objective}, on validation samples",
        f"trials at a time: {settings.max_concurrent_trials}",
        f"outputs: {search_root(run) / settings.name}: summary.json, winner.yaml",
    ]
    return lines


def check_trials(settings: SearchSettings, run: Mapping[str, Any]) -> None:
    """Look at everything that trials read from outside, each once. Raises ConfigError."""
    checked = set()
    for parameters in trial_parameters(settings.space):
        trial = trial_settings(run, parameters)
        read = (
            trial.events,
            trial.model,
            tuple(source.model_copy(update={"weight": 0.0, "ratio": 0.0}) for source in trial.auxiliary),
        )
        key = repr(read)
        if key not in checked:
            checked.add(key)
            Pipeline(trial).check_inputs()


def search_root(run: Mapping[str, Any]) -> Path:
    """The folder of all runs and searches."""
    return Path(run["storage"]["root"])


def describe(parameters: Mapping[str, Any]) -> str:
    """`selection.balance=0.3, auxiliary.0.weight=0.1`."""
    return ", ".join(f"{key}={value}" for key, value in parameters.items())


def described_metrics(metrics: Mapping[str, Any]) -> str:
    """`objective 0.4213, anchor_accuracy 0.5012, …`."""
    return ", ".join(
        f"{name} {'none' if metrics[name] is None else format(metrics[name], '.4f')}" for name in METRICS
    )


def _outcomes(results: ResultGrid, grid: list[Parameters]) -> list[TrialOutcome]:
    """The trials in the order of the grid."""
    outcomes = []
    for index in range(len(results)):
        result = results[index]
        parameters = (result.config or {}).get(OVERRIDES, {})
        metrics = result.metrics or {}
        if result.error is not None:
            outcomes.append(TrialOutcome(parameters=parameters, status="failed", error=reason(result.error)))
        elif OBJECTIVE in metrics:
            outcomes.append(
                TrialOutcome(
                    parameters=parameters,
                    status="finished",
                    metrics={name: metrics[name] for name in METRICS},
                    stages=metrics["stages"],
                )
            )
        else:
            outcomes.append(TrialOutcome(parameters=parameters, status="unfinished"))
    return sorted(outcomes, key=lambda outcome: grid.index(outcome.parameters))


def reason(error: BaseException) -> str:
    """The project's own error inside what Tune hands over, else the last line of it."""
    cause: BaseException | None = error
    while cause is not None:
        # What Ray raises is both the project's error and Ray's, which speaks of tracebacks: the one inside is meant.
        if isinstance(cause, BehaviorLMError) and not isinstance(cause, RayTaskError):
            return str(cause)
        cause = getattr(cause, "cause", None) or cause.__cause__
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__


class _Progress(tune.Callback):
    """One line for each trial that ends. State: how many have."""

    def __init__(self, trials: int) -> None:
        self.trials = trials
        self.ended = 0

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._tell(
            trial, described_metrics(trial.last_result) if OBJECTIVE in trial.last_result else "no result"
        )

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._tell(trial, "failed")

    def _tell(self, trial: Any, outcome: str) -> None:
        self.ended += 1
        print(f"trial {self.ended} of {self.trials}, {describe(trial.config[OVERRIDES])}: {outcome}")
