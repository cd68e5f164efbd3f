"""What a search found: its trials and the winner; and what it says where it has none, or a budget ended it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from behaviorlm.config import Settings
from behaviorlm.errors import ClusterError, ModelError
from behaviorlm_ray.search.cost import StageCosts
from behaviorlm_ray.search.decisions import Ending, Outcome, Task
from behaviorlm_ray.search.objective import ANCHOR, ObjectiveSettings, ranked, reaches
from behaviorlm_ray.search.settings import SearchSettings, sure_trials
from behaviorlm_ray.search.space import Parameters, describe

RETRY_FAILED = "to run them again, repeat the command with --retry_failed=true"


class RungMetrics(Settings):
    """A trial at one rung, from 1: the objective and its parts on validation, after so many steps of B-Tuning."""

    rung: int
    steps: int | None
    metrics: dict[str, float | None]


class TrialOutcome(Settings):
    """One trial.

    trial: number, from 0, in the order in which trials began. status: finished: tuned whole; stopped: measured at an
    earlier rung and left there; failed; unfinished: the search ended in the middle of it. metrics, steps and stages
    (folders by name): at its highest rung. cost: tokens of all stages that it used, shared ones included.
    """

    trial: int = 0
    parameters: Parameters
    status: Literal["finished", "stopped", "failed", "unfinished"]
    metrics: dict[str, float | None] = Field(default={})
    rungs: list[RungMetrics] = Field(default=[])
    steps: int | None = None
    steps_of_whole: int | None = None
    stages: dict[str, str] = Field(default={})
    cost: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class Findings:
    """What a search has found so far: its trials, how its tasks ended, and why it did.

    floor: least anchor accuracy; reference: the arm that the floor is relative to, as it was measured.
    """

    settings: SearchSettings
    trials: list[TrialOutcome]
    outcomes: list[Outcome]
    floor: float | None = None
    reference: Outcome | None = None
    ending: Ending = "whole"

    @property
    def best(self) -> TrialOutcome | None:
        """The winner, if there is one."""
        return winner_of(self.trials, self.settings.objective, self.floor)

    @property
    def charged(self) -> list[Outcome]:
        """All that was paid for."""
        return self.outcomes if self.reference is None else [*self.outcomes, self.reference]


def trials_of(
    tasks: Sequence[Task], outcomes: Mapping[int, Outcome], rungs: int, costs: StageCosts
) -> list[TrialOutcome]:
    """The trials in the order in which they began, from the tasks that brought them from rung to rung."""
    trials = []
    for number in sorted({task.trial for task in tasks}):
        own = [task for task in tasks if task.trial == number]
        ended = [outcomes[task.number] for task in own if task.number in outcomes]
        measured = [outcome for outcome in ended if outcome.error is None]
        last = measured[-1] if measured else Outcome(task=own[0])
        error = next((outcome.error for outcome in ended if outcome.error is not None), None)
        is_whole = bool(measured) and last.task.rung == rungs - 1
        status = "failed" if error is not None else "unfinished" if len(ended) < len(own) else "stopped"
        trial = {
            "trial": number,
            "parameters": own[0].parameters,
            "status": "finished" if status == "stopped" and is_whole else status,
            "rungs": [
                {"rung": outcome.task.rung + 1, "steps": outcome.steps, "metrics": outcome.metrics}
                for outcome in measured
            ],
            "cost": costs.spent(measured).tokens if measured else None,
            "error": error,
        }
        last_known = last.model_dump(include={"metrics", "steps", "steps_of_whole", "stages"})
        trials.append(TrialOutcome.model_validate(trial | last_known))
    return trials


def winner_of(
    trials: Sequence[TrialOutcome], objective: ObjectiveSettings, floor: float | None = None
) -> TrialOutcome | None:
    """The best of the trials that were tuned whole and reach the floor, of equal ones the first; else None."""
    whole = [each for each in finished(trials) if floor is None or reaches(each.metrics, floor)]
    order = ranked(objective, floor, [trial.metrics for trial in whole])
    return whole[order[0]] if order else None


def finished(trials: Sequence[TrialOutcome]) -> list[TrialOutcome]:
    """The trials that were tuned whole."""
    return [trial for trial in trials if trial.status == "finished"]


def budget_ended(found: Findings) -> str:
    """A line that says that a budget ended the search, and what it left out."""
    settings = found.settings
    which = "budget.wall_seconds" if found.ending == "time" else "the budget"
    is_grid = settings.algorithm.name == "grid"
    total = len(list(sure_trials(settings))) if is_grid else settings.budget.trials
    left_out = 0 if total is None else total - len(found.trials)
    tuned = len(finished(found.trials))
    return (
        f"{which} is used up: {tuned} trials were tuned whole, {len(found.trials) - tuned} were not, {left_out} of "
        f"{total} never began; raise it and run the same command again, and it goes on"
    )


def check_for_winner(found: Findings, costs: StageCosts) -> None:
    """Say why there is no winner, if there is none: ModelError below the floor, ClusterError without a whole trial."""
    if found.best is not None:
        return
    whole, floor, objective = finished(found.trials), found.floor, found.settings.objective
    if whole and floor is not None:
        nearest = whole[ranked(objective, floor, [trial.metrics for trial in whole])[0]]
        raise ModelError(
            f"no trial reaches the floor: anchor accuracy at least {floor:.4f} ({objective.floor}); the nearest has "
            f"{nearest.metrics[ANCHOR]:.4f}, with {describe(nearest.parameters)}. Lower the floor or widen the space; "
            "what ran is in the summary and is not run again"
        )
    limits = found.settings.budget.model_dump(exclude={"trials"}, exclude_none=True)
    lines = list(dict.fromkeys(outcome.error for outcome in found.outcomes if outcome.error))
    if lines:
        lines = ["no trial was tuned whole", *lines, RETRY_FAILED]
    elif limits:
        lines = [
            "the budget was used up before one trial was tuned whole; raise budget and run the same command again: "
            "it goes on from what is finished"
        ]
    if limits:
        spent = costs.spent(found.charged)
        used = f"tokens {spent.tokens:g}, sample-epochs {spent.sample_epochs:.2f}"
        lines.append(f"used so far: {used}; allowed: {limits}")
    raise ClusterError("\n".join(lines or ["no trial was tuned whole"]))


def check_budget(found: Findings, costs: StageCosts) -> None:
    """Raise ClusterError if a limit is below what every trial took that was tuned whole.

    What a trial takes is known when one has ended: only then is its selection made and its B-Tuning counted.
    """
    measured = [outcome for outcome in found.outcomes if outcome.error is None]
    spent = [
        costs.spent(outcome for outcome in measured if outcome.task.trial == trial.trial)
        for trial in finished(found.trials)
    ]
    problems = [
        f"budget.{name}: {limit:g} is less than one trial takes, {least:g} at least; raise it and run the same command "
        "again: what was tuned is in the summary and is not run again"
        for name in ("tokens", "sample_epochs", "gpu_hours")
        if spent
        and (limit := getattr(found.settings.budget, name)) is not None
        and limit < (least := min(getattr(each, name) for each in spent))
    ]
    if problems:
        raise ClusterError("\n".join(problems))
