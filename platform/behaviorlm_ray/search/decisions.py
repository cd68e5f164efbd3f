"""What a search runs next: a pure function of its settings and of what came out so far.

A search is a row of tasks; each brings one trial to one rung. Task k is decided from the outcomes of the tasks before
k - c + 1, c being the number of trials at a time: the latest that must have ended for it to start. Which of the others
happens to end sooner never matters. So the same settings make the same row of tasks with the same outcomes, however
fast each ran, and a search that was killed anywhere goes on with exactly the row that it would have had.

From a rung at most 1/reduction of the trials that reached it go on, the best first. All trials start before one goes on
(our choice), so that each is held against all others; where a budget may end the search sooner, going on comes first,
so that something is whole by then.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from behaviorlm.config import Settings
from behaviorlm_ray.search.objective import Metrics
from behaviorlm_ray.search.proposals import KnownTrial
from behaviorlm_ray.search.space import Parameters


class Task(Settings):
    """One trial up to one rung."""

    number: int = Field(description="Place in the row of tasks, from 0.")
    trial: int = Field(description="Number of the trial, from 0.")
    rung: int = Field(description="The rung it is tuned up to, from 0.")
    parameters: Parameters = Field(description="Dotted keys of the run and their values.")


class Outcome(Settings):
    """How a task ended."""

    task: Task = Field(description="What was asked for.")
    metrics: dict[str, float | None] = Field(default={}, description="On validation; empty if it failed.")
    steps: int | None = Field(default=None, description="Steps of B-Tuning so far.")
    steps_of_whole: int | None = Field(default=None, description="Steps of its whole B-Tuning.")
    stages: dict[str, str] = Field(default={}, description="Folder of each stage it used, by name.")
    error: str | None = Field(default=None, description="Why it failed.")


Decision = Task | Literal["wait", "end"]


@dataclass(frozen=True)
class Rules:
    """What decisions follow from, besides outcomes.

    propose: parameters of a new trial from its number and what is known of the others; None: the space is used up.
    ranked: places, best first. trials: at most so many; None: as many as are proposed. going_on_first: whether a trial
    goes on as soon as it may, before others start. exhausted: whether a budget is used up by these outcomes.
    """

    propose: Callable[[int, Sequence[KnownTrial]], Parameters | None]
    ranked: Callable[[Sequence[Metrics]], list[int]]
    trials: int | None
    rungs: int
    reduction: int
    at_a_time: int
    going_on_first: bool
    exhausted: Callable[[Sequence[Outcome]], bool]


def next_task(rules: Rules, tasks: Sequence[Task], outcomes: Mapping[int, Outcome]) -> Decision:
    """The task after `tasks`, "wait" until a further outcome is there, or "end". outcomes: by number of the task."""
    for known in range(max(0, len(tasks) - rules.at_a_time + 1), len(tasks) + 1):
        if any(number not in outcomes for number in range(known)):
            return "wait"
        task = _decided(rules, tasks, [outcomes[number] for number in range(known)])
        if task is not None:
            return task
    return "end"


def _decided(rules: Rules, tasks: Sequence[Task], known: Sequence[Outcome]) -> Task | None:
    """The next task as these outcomes suggest it; None if they leave nothing to do."""
    if rules.exhausted(known):
        return None
    number_of_trials = 1 + max((task.trial for task in tasks), default=-1)
    new = None
    if rules.trials is None or number_of_trials < rules.trials:
        new = rules.propose(number_of_trials, _known_trials(tasks, known))
    if new is not None and not rules.going_on_first:
        return Task(number=len(tasks), trial=number_of_trials, rung=0, parameters=new)
    going_on = _going_on(rules, tasks, known)
    if going_on is not None:
        return going_on
    if new is not None:
        return Task(number=len(tasks), trial=number_of_trials, rung=0, parameters=new)
    whole = any(outcome.task.rung == rules.rungs - 1 and outcome.error is None for outcome in known)
    if len(known) < len(tasks) or whole:
        return None
    # Too few trials for a share of them to go on, or those that did failed: at least one has to come to the end.
    for rung in reversed(range(rules.rungs - 1)):
        for task in _best_first(rules, known, rung):
            if (task.trial, rung + 1) not in {(started.trial, started.rung) for started in tasks}:
                return _next_rung(task, len(tasks))
    return None


def _next_rung(task: Task, number: int) -> Task:
    return Task(number=number, trial=task.trial, rung=task.rung + 1, parameters=task.parameters)


def _going_on(rules: Rules, tasks: Sequence[Task], known: Sequence[Outcome]) -> Task | None:
    """The next trial to leave a rung for the one above; None if no rung has a place left, or nobody for it."""
    rungs = range(rules.rungs - 1)
    for rung in reversed(rungs) if rules.going_on_first else rungs:
        above = {task.trial for task in tasks if task.rung == rung + 1}
        places = sum(outcome.task.rung == rung for outcome in known) // rules.reduction
        # Among as many as there are places, as in ASHA: a bad one does not go on because the good ones have.
        best = [task for task in _best_first(rules, known, rung)[:places] if task.trial not in above]
        if best and len(above) < places:
            return _next_rung(best[0], len(tasks))
    return None


def _best_first(rules: Rules, known: Sequence[Outcome], rung: int) -> list[Task]:
    """The tasks that are known to have reached a rung without an error, the best first."""
    measured = [outcome for outcome in known if outcome.task.rung == rung and outcome.error is None]
    return [measured[place].task for place in rules.ranked([outcome.metrics for outcome in measured])]


def _known_trials(tasks: Sequence[Task], known: Sequence[Outcome]) -> list[KnownTrial]:
    """Every trial that has started, with the outcome of its highest rung that is known."""
    parameters = {task.trial: task.parameters for task in tasks}
    highest: dict[int, Outcome] = {}
    for outcome in known:
        trial = outcome.task.trial
        if trial not in highest or outcome.task.rung > highest[trial].task.rung:
            highest[trial] = outcome
    return [
        KnownTrial(parameters[trial], highest[trial].metrics if trial in highest else None)
        for trial in sorted(parameters)
    ]
