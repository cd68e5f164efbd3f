"""How a search ends: what it says where it has no winner, or a budget cut it short."""

from collections.abc import Mapping, Sequence
from typing import Any

from behaviorlm.errors import BehaviorLMError, ClusterError, ModelError
from behaviorlm_ray.search.cost import StageCosts
from behaviorlm_ray.search.decisions import Outcome
from behaviorlm_ray.search.objective import ANCHOR, ranked
from behaviorlm_ray.search.settings import BudgetSettings, SearchSettings, sure_trials
from behaviorlm_ray.search.summary import TrialOutcome, winner_of
from behaviorlm_ray.search.sweep import Ending, describe

RETRY_FAILED = "to run them again, repeat the command with --retry_failed=true"


def budget_ended(settings: SearchSettings, trials: Sequence[TrialOutcome], ending: Ending) -> str:
    """A line that says that a budget ended the search, and what it left out."""
    which = "budget.wall_seconds" if ending == "time" else "the budget"
    total = len(list(sure_trials(settings))) if settings.algorithm.name == "grid" else settings.budget.trials
    left_out = 0 if total is None else total - len(trials)
    tuned = sum(trial.status == "finished" for trial in trials)
    return (
        f"{which} is used up: {tuned} trials were tuned whole, {len(trials) - tuned} were not, {left_out} of {total} "
        "never began; raise it and run the same command again, and it goes on"
    )


def check_for_winner(
    settings: SearchSettings,
    trials: Sequence[TrialOutcome],
    outcomes: Sequence[Outcome],
    floor: float | None,
    summary: Mapping[str, Any],
) -> None:
    """Say why there is no winner, if there is none: ModelError below the floor, ClusterError without a whole trial."""
    if winner_of(trials, settings.objective, floor) is not None:
        return
    whole = [trial for trial in trials if trial.status == "finished"]
    if whole and floor is not None:
        nearest = whole[ranked(settings.objective, floor, [trial.metrics for trial in whole])[0]]
        raise ModelError(
            f"no trial reaches the floor: anchor accuracy at least {floor:.4f} ({settings.objective.floor}); the "
            f"nearest has {nearest.metrics[ANCHOR]:.4f}, with {describe(nearest.parameters)}. Lower the floor or widen "
            "the space; what ran is in the summary and is not run again"
        )
    limits = settings.budget.model_dump(exclude={"trials"}, exclude_none=True)
    error = _nothing_finished(outcomes, budget_is_over=bool(limits))
    used = f"tokens {summary['cost']:g}, sample-epochs {summary['sample_epochs']:.2f}"
    raise type(error)(f"{error}\nused so far: {used}; allowed: {limits or 'all'}") if limits else error


def check_budget(
    budget: BudgetSettings, outcomes: Sequence[Outcome], trials: Sequence[TrialOutcome], costs: StageCosts
) -> None:
    """Raise ClusterError if a limit is below what every trial took that was tuned whole.

    What a trial takes is known when one has ended: only then is its selection made and its B-Tuning counted.
    """
    whole = {trial.trial for trial in trials if trial.status == "finished"}
    spent = [
        costs.spent(outcome for outcome in outcomes if outcome.task.trial == trial and outcome.error is None)
        for trial in whole
    ]
    if not spent:
        return
    problems = [
        f"budget.{name}: {limit:g} is less than one trial takes, {least:g} at least; raise it and run the same command "
        "again: what was tuned is in the summary and is not run again"
        for name in ("tokens", "sample_epochs", "gpu_hours")
        if (limit := getattr(budget, name)) is not None
        and limit < (least := min(getattr(each, name) for each in spent))
    ]
    if problems:
        raise ClusterError("\n".join(problems))


def _nothing_finished(outcomes: Sequence[Outcome], budget_is_over: bool) -> BehaviorLMError:
    errors = list(dict.fromkeys(outcome.error for outcome in outcomes if outcome.error))
    if budget_is_over and not errors:
        return ClusterError(
            "the budget was used up before one trial was tuned whole; raise budget and run the same command again: "
            "it goes on from what is finished"
        )
    lines = ["no trial was tuned whole", *errors]
    return ClusterError("\n".join([*lines, RETRY_FAILED] if errors else lines))
