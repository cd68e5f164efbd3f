"""What a search found: its trials and the winner, what it writes down of them, and what it says where it has none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml
from pydantic import Field

from behaviorlm.config import Settings
from behaviorlm.errors import ClusterError, ModelError
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.search.cost import StageCosts
from behaviorlm_ray.search.decisions import Ending, Outcome, Task
from behaviorlm_ray.search.objective import ANCHOR, ObjectiveSettings, ranked, reaches
from behaviorlm_ray.search.settings import SearchSettings, sure_trials
from behaviorlm_ray.search.space import Parameters, describe
from behaviorlm_ray.storage import Location, read_bytes, remove_if, write_replacing

SUMMARY = "summary.json"
WINNER = "winner.yaml"
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
    """What a search has found so far: its trials, how its tasks ended, what they cost, and why it ended.

    floor: least anchor accuracy; reference: the arm that the floor is relative to, as it was measured.
    """

    settings: SearchSettings
    trials: list[TrialOutcome]
    outcomes: list[Outcome]
    costs: StageCosts
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
    of_trial: dict[int, list[Task]] = {}
    for task in tasks:
        of_trial.setdefault(task.trial, []).append(task)
    for number, own in sorted(of_trial.items()):
        ended = [outcomes[task.number] for task in own if task.number in outcomes]
        measured = [outcome for outcome in ended if outcome.error is None]
        last = measured[-1] if measured else Outcome(task=own[0])
        is_whole = bool(measured) and last.task.rung == rungs - 1
        status = "unfinished" if len(ended) < len(own) else "finished" if is_whole else "stopped"
        error = next((outcome.error for outcome in ended if outcome.error is not None), None)
        trial = last.model_dump(include={"metrics", "steps", "steps_of_whole", "stages"}) | {
            "trial": number,
            "parameters": own[0].parameters,
            "status": status if error is None else "failed",
            "rungs": [
                {"rung": outcome.task.rung + 1, "steps": outcome.steps, "metrics": outcome.metrics}
                for outcome in measured
            ],
            "cost": costs.spent(measured) if measured else None,
            "error": error,
        }
        trials.append(TrialOutcome.model_validate(trial))
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


def summarized(found: Findings) -> dict[str, Any]:
    """What summary.json holds."""
    objective, best = found.settings.objective, found.best
    used = sorted({stage for outcome in found.charged for stage in outcome.stages.values()})
    # later rungs replace earlier ones
    whole = {each.task.trial: found.costs.whole(each) for each in found.outcomes if each.error is None}
    return {
        "ended_by": found.ending,
        "trials": [trial.model_dump(mode="json", exclude={"stages"}) for trial in found.trials],
        "stages": {stage: found.costs.manifest(stage).cost.get("tokens", 0.0) for stage in used},
        "cost": found.costs.spent(found.charged),
        "cost_unshared": sum(whole.values()),
        "cost_unit": "tokens through a model: tuning, scoring of difficulty, validation",
        "objective": objective.model_dump(mode="json") | {"floor_value": found.floor},
        "winner": best and best.model_dump(mode="json", include={"trial", "parameters", "metrics"}),
        "alike": alike(found.trials),
    }


def write_winner(folder: Location, winner: RunSettings | None) -> None:
    """Write winner.yaml, which `behaviorlm run --config` runs; without a winner, remove that of before."""
    old = read_bytes(folder / WINNER)
    if winner is not None:
        text = yaml.safe_dump(winner.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        write_replacing(folder / WINNER, text.encode())
    elif old is not None:
        remove_if(folder / WINNER, old)


def alike(trials: Sequence[TrialOutcome]) -> list[list[int]]:
    """Numbers of trials that came to one and the same measured model: what they differ in changed nothing of it."""
    groups: dict[str, list[int]] = {}
    for trial in trials:
        measured = [folder for name, folder in trial.stages.items() if name.startswith("validate_")]
        if measured:
            groups.setdefault(measured[-1], []).append(trial.trial)
    return [numbers for numbers in groups.values() if len(numbers) > 1]


def budget_ended(found: Findings) -> str:
    """A line that says that a budget ended the search, and what it left out."""
    settings, began = found.settings, len(found.trials)
    which = "budget.wall_seconds" if found.ending == "time" else "the budget"
    total = len(sure_trials(settings)) if settings.algorithm.name == "grid" else settings.budget.trials or 0
    tuned = len(finished(found.trials))
    return (
        f"{which} is used up: {tuned} trials were tuned whole, {began - tuned} were not, {total - began} of {total} "
        "never began; raise it and run the same command again, and it goes on"
    )


def check_for_winner(found: Findings) -> None:
    """Say why there is no winner, if there is none: ModelError below the floor, ClusterError without a whole trial."""
    if found.best is not None:
        return
    whole, floor, objective = finished(found.trials), found.floor, found.settings.objective
    if whole and floor is not None:
        nearest = whole[ranked(objective, floor, [trial.metrics for trial in whole])[0]]
        raise ModelError(
            f"no trial reaches the floor: anchor accuracy at least {floor:.4f} ({objective.described_floor}); the "
            f"nearest has {nearest.metrics[ANCHOR]:.4f}, with {describe(nearest.parameters)}. Lower the floor or widen "
            "the space; what ran is in the summary and is not run again"
        )
    limits = found.settings.budget.limits
    lines = ["no trial was tuned whole"]
    if errors := list(dict.fromkeys(outcome.error for outcome in found.outcomes if outcome.error)):
        lines += [*errors, RETRY_FAILED]
    elif limits:
        lines = [
            "the budget was used up before one trial was tuned whole; raise budget and run the same command again: "
            "it goes on from what is finished"
        ]
    if limits:
        lines.append(f"used so far: tokens {found.costs.spent(found.charged):g}; allowed: {limits}")
    raise ClusterError("\n".join(lines))
