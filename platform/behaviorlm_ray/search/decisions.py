"""What a search runs next: a pure function of its settings and of what came out so far.

A search is a row of tasks; each brings one trial to one rung. Task k is decided from the outcomes of the tasks before
k - c + 1, c being the number of trials at a time: the latest that must have ended for it to start. Which of the others
happens to end sooner never matters. So the same settings make the same row of tasks with the same outcomes, however
fast each ran, and a search that was killed anywhere goes on with exactly the row that it would have had.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from pydantic import Field

from behaviorlm.config import Settings
from behaviorlm_ray.search.objective import ranked
from behaviorlm_ray.search.proposals import KnownTrial, Proposer
from behaviorlm_ray.search.settings import SearchSettings
from behaviorlm_ray.search.space import Parameters


class Task(Settings):
    """One trial up to one rung. number: place in the row of tasks; all three count from 0."""

    number: int
    trial: int
    rung: int
    parameters: Parameters


class Outcome(Settings):
    """How a task ended. metrics: on validation; steps: of B-Tuning so far; stages: folders by name; error: why not."""

    task: Task
    metrics: dict[str, float | None] = Field(default={})
    steps: int | None = None
    steps_of_whole: int | None = None
    stages: dict[str, str] = Field(default={})
    error: str | None = None


Decision = Task | Literal["wait", "end"]
Ending = Literal["whole", "budget", "time", "interrupted"]
"""Why a search ended: nothing was left to do, a budget or its wall time was used up, or it was interrupted."""


@dataclass(frozen=True)
class Rules:
    """What decisions follow from, besides outcomes.

    floor: least anchor accuracy of objective tail. exhausted: whether a budget is used up by these outcomes.
    """

    settings: SearchSettings
    floor: float | None = None
    exhausted: Callable[[Sequence[Outcome]], bool] = lambda known: False

    @cached_property
    def proposer(self) -> Proposer:
        """Proposes the parameters of a new trial."""
        return Proposer(self.settings.space, self.settings.algorithm, self.settings.objective, self.floor)


def next_task(rules: Rules, tasks: Sequence[Task], outcomes: Mapping[int, Outcome]) -> Decision:
    """The task after `tasks`, "wait" until a further outcome is there, or "end". outcomes: by number of the task."""
    for known in range(max(0, len(tasks) - rules.settings.max_concurrent_trials + 1), len(tasks) + 1):
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
    # Each trial is held against all others, unless the search may end before: then something is to be whole by then.
    first, second = (_going_on, _beginning) if rules.settings.budget.limits else (_beginning, _going_on)
    task = first(rules, tasks, known) or second(rules, tasks, known)
    last = rules.settings.scheduler.number_of_rungs - 1
    whole = any(outcome.task.rung == last and outcome.error is None for outcome in known)
    if task is not None or whole or len(known) < len(tasks):
        return task
    # Too few trials for a share of them to go on, or those that did failed: at least one has to come to the end.
    started = {(task.trial, task.rung) for task in tasks}
    best_first = (best for rung in reversed(range(last)) for best in _best_first(rules, known, rung))
    left = (best for best in best_first if (best.trial, best.rung + 1) not in started)
    return next((_next_rung(best, len(tasks)) for best in left), None)


def _beginning(rules: Rules, tasks: Sequence[Task], known: Sequence[Outcome]) -> Task | None:
    """The next trial up to its first rung; None if there is none."""
    trial, most = 1 + max((task.trial for task in tasks), default=-1), rules.settings.budget.trials
    if most is not None and trial >= most:
        return None
    parameters = rules.proposer.propose(trial, _known_trials(tasks, known))
    if parameters is None:
        return None
    return Task(number=len(tasks), trial=trial, rung=0, parameters=parameters)


def _next_rung(task: Task, number: int) -> Task:
    return Task(number=number, trial=task.trial, rung=task.rung + 1, parameters=task.parameters)


def _going_on(rules: Rules, tasks: Sequence[Task], known: Sequence[Outcome]) -> Task | None:
    """The best trial to leave a rung for the one above; None if no rung has a place left, or nobody for it."""
    rungs = range(rules.settings.scheduler.number_of_rungs - 1)
    for rung in reversed(rungs) if rules.settings.budget.limits else rungs:
        above = {task.trial for task in tasks if task.rung == rung + 1}
        places = sum(outcome.task.rung == rung for outcome in known) // rules.settings.scheduler.reduction
        # Among as many as there are places, as in ASHA: a bad one does not go on because the good ones have.
        best = [task for task in _best_first(rules, known, rung)[:places] if task.trial not in above]
        if best and len(above) < places:
            return _next_rung(best[0], len(tasks))
    return None


def _best_first(rules: Rules, known: Sequence[Outcome], rung: int) -> list[Task]:
    """The tasks that are known to have reached a rung without an error, the best first."""
    measured = [outcome for outcome in known if outcome.task.rung == rung and outcome.error is None]
    order = ranked(rules.settings.objective, rules.floor, [outcome.metrics for outcome in measured])
    return [measured[place].task for place in order]


def _known_trials(tasks: Sequence[Task], known: Sequence[Outcome]) -> list[KnownTrial]:
    """Every trial that has started, with the outcome of its highest rung that is known."""
    highest = {
        outcome.task.trial: outcome.metrics for outcome in sorted(known, key=lambda known: known.task.rung)
    }
    started = {task.trial: task.parameters for task in sorted(tasks, key=lambda task: task.trial)}
    return [(parameters, highest.get(trial)) for trial, parameters in started.items()]
