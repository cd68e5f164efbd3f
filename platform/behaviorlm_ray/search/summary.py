"""What a search found: its trials, how often each stage ran for them, what that cost, front and winner."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import yaml
from pydantic import Field
from scipy.stats import spearmanr

from behaviorlm.config import Settings, with_values
from behaviorlm.errors import ConfigError, StorageError
from behaviorlm_ray.pipeline.arms import Tuning
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.search.cost import Attempts, StageCosts, times_run
from behaviorlm_ray.search.decisions import Outcome, Task
from behaviorlm_ray.search.objective import (
    MEAN,
    ObjectiveSettings,
    compared_by,
    pareto_front,
    ranked,
    reaches,
)
from behaviorlm_ray.search.settings import trial_settings
from behaviorlm_ray.search.space import Parameters
from behaviorlm_ray.storage import Location, read_bytes, read_text, remove_if, write_replacing

SUMMARY = "summary.json"
WINNER = "winner.yaml"
WINNING_ARM: Tuning = "ab_tuned"
Status = Literal["finished", "stopped", "failed", "unfinished"]


class RungMetrics(Settings):
    """A trial at one rung."""

    rung: int = Field(description="From 1.")
    steps: int | None = Field(description="Steps of B-Tuning.")
    metrics: dict[str, float | None] = Field(description="The objective and its parts, on validation.")


class TrialOutcome(Settings):
    """One trial."""

    trial: int = Field(default=0, description="Number, from 0, in the order in which trials began.")
    parameters: Parameters = Field(description="Dotted keys of the run and their values.")
    status: Status = Field(
        description="finished: tuned whole; stopped: measured at an earlier rung and left there; failed; unfinished: "
        "the search ended in the middle of it."
    )
    metrics: dict[str, float | None] = Field(
        default_factory=dict, description="The objective and its parts on validation, at the highest rung."
    )
    rungs: list[RungMetrics] = Field(default=[], description="The same at each rung.")
    steps: int | None = Field(default=None, description="Steps of B-Tuning that it got.")
    steps_of_whole: int | None = Field(default=None, description="Steps of its whole B-Tuning.")
    stages: dict[str, str] = Field(default_factory=dict, description="Folder of each stage it used, by name.")
    cost: float | None = Field(
        default=None, description="Tokens through a model of all stages that it used, shared ones included."
    )
    error: str | None = Field(default=None, description="Why it failed.")


def trials_of(
    tasks: Sequence[Task], outcomes: Mapping[int, Outcome], rungs: int, costs: StageCosts
) -> list[TrialOutcome]:
    """The trials in the order in which they began, from the tasks that brought them from rung to rung."""
    trials = []
    for number in sorted({task.trial for task in tasks}):
        own = [task for task in tasks if task.trial == number]
        ended = [outcomes[task.number] for task in own if task.number in outcomes]
        measured = [outcome for outcome in ended if outcome.error is None]
        last = measured[-1] if measured else None
        error = next((outcome.error for outcome in ended if outcome.error is not None), None)
        status: Status = "stopped"
        if error is not None:
            status = "failed"
        elif len(ended) < len(own):
            status = "unfinished"
        elif last is not None and last.task.rung == rungs - 1:
            status = "finished"
        trials.append(
            TrialOutcome(
                trial=number,
                parameters=own[0].parameters,
                status=status,
                metrics=last.metrics if last else {},
                rungs=[
                    RungMetrics(rung=outcome.task.rung + 1, steps=outcome.steps, metrics=outcome.metrics)
                    for outcome in measured
                ],
                steps=last.steps if last else None,
                steps_of_whole=last.steps_of_whole if last else None,
                stages=last.stages if last else {},
                cost=costs.spent(measured).tokens if measured else None,
                error=error,
            )
        )
    return trials


def winner_of(
    trials: Sequence[TrialOutcome], objective: ObjectiveSettings, floor: float | None = None
) -> TrialOutcome | None:
    """The best of the trials that were tuned whole and reach the floor, of equal ones the first; else None."""
    whole = [trial for trial in trials if trial.status == "finished"]
    if floor is not None:
        whole = [trial for trial in whole if reaches(trial.metrics, floor)]
    order = ranked(objective, floor, [trial.metrics for trial in whole])
    return whole[order[0]] if order else None


def front_of(trials: Sequence[TrialOutcome]) -> list[int]:
    """Numbers of the whole trials that no other beats in one metric without being worse in the other."""
    whole = [trial for trial in trials if trial.status == "finished"]
    return [whole[place].trial for place in pareto_front([trial.metrics for trial in whole])]


def alike(trials: Sequence[TrialOutcome]) -> list[list[int]]:
    """Numbers of trials that came to one and the same measured model: what they differ in changed nothing of it."""
    groups: dict[str, list[int]] = {}
    for trial in trials:
        measured = [folder for name, folder in trial.stages.items() if name.startswith("validate_")]
        if measured:
            groups.setdefault(measured[-1], []).append(trial.trial)
    return [numbers for numbers in groups.values() if len(numbers) > 1]


def rung_correlation(trials: Sequence[TrialOutcome], rungs: int, metric: str = MEAN) -> list[dict[str, Any]]:
    """Spearman's rank correlation of a metric between each rung and the last, over trials measured at both.

    With early stopping these are the best of each rung only, which makes the correlation lower than over all trials.
    None where fewer than three trials were at both, or where all are equal.
    """
    found = []
    for rung in range(1, rungs):
        pairs = [
            (at[rung], at[rungs])
            for trial in trials
            if {rung, rungs}
            <= (at := {each.rung: each.metrics[metric] or 0.0 for each in trial.rungs}).keys()
        ]
        value = None
        if len(pairs) > 2 and all(len(set(side)) > 1 for side in zip(*pairs, strict=True)):
            value = float(spearmanr(*zip(*pairs, strict=True)).statistic)
        found.append({"rung": rung, "last": rungs, "trials": len(pairs), "spearman": value})
    return found


def winning_run(run: Mapping[str, Any], parameters: Parameters, name: str) -> RunSettings:
    """The run of the winner: the base run with its parameters, under a name of its own, A+B among its arms."""
    arms = list(run["evaluation"]["arms"])
    if WINNING_ARM not in arms:
        arms.append(WINNING_ARM)
    return trial_settings(with_values(run, {"name": name, "evaluation.arms": arms}), parameters)


def write_summary(
    folder: Location,
    *,
    root: Location,
    trials: Sequence[TrialOutcome],
    outcomes: Sequence[Outcome],
    costs: StageCosts,
    before: Attempts,
    reference: Outcome | None,
    objective: ObjectiveSettings,
    floor: float | None,
    rungs: int,
    winner: RunSettings | None,
    ending: str = "whole",
) -> dict[str, Any]:
    """Write summary.json and, with a winner, winner.yaml, which `jobs.run --config` runs. Returns the summary."""
    all_outcomes = [*outcomes, *([reference] if reference else [])]
    used = {stage for outcome in all_outcomes for stage in outcome.stages.values()}
    stages, cut_short = times_run(root, before, used)
    best = winner_of(trials, objective, floor)
    whole = {
        outcome.task.trial: costs.whole(outcome) for outcome in outcomes if outcome.error is None
    }  # later rungs replace earlier ones
    spent = costs.spent(all_outcomes)
    summary: dict[str, Any] = {
        "ended_by": ending,
        "trials": [trial.model_dump(mode="json", exclude={"stages"}) for trial in trials],
        "stages": stages,
        "stages_cut_short": cut_short,
        "stages_without_cost": costs.uncounted(used),
        "cost": spent.tokens,
        "cost_unshared": sum(whole.values()),
        "cost_unit": "tokens through a model: tuning, scoring of difficulty, validation",
        "sample_epochs": spent.sample_epochs,
        "gpu_hours": spent.gpu_hours,
        "objective": objective.model_dump(mode="json") | {"floor_value": floor},
        "winner": None
        if best is None
        else best.model_dump(mode="json", include={"trial", "parameters", "metrics"}),
        "pareto": front_of(trials),
        "alike": alike(trials),
        "rung_correlation": rung_correlation(trials, rungs, compared_by(objective)),
        "compared_by": compared_by(objective),
    }
    write_json(folder / SUMMARY, summary)
    if winner is None:
        old = read_bytes(folder / WINNER)
        if old is not None:
            remove_if(folder / WINNER, old)
    else:
        text = yaml.safe_dump(winner.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        write_replacing(folder / WINNER, text.encode())
    return summary


def write_json(path: Location, value: Any) -> None:
    """Readable JSON, replaced as a whole."""
    write_replacing(path, json.dumps(value, indent=1).encode())


def read_summary(path: Location) -> dict[str, Any]:
    """A summary as `write_summary` wrote it. Raises ConfigError."""
    try:
        found: dict[str, Any] = json.loads(read_text(path))
    except (StorageError, ValueError) as error:
        raise ConfigError(f"{path} is not a summary of a search: {error}") from None
    return found
