"""What a search writes down of what it found, summary.json and winner.yaml, and what it tells of its trials there."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from scipy.stats import spearmanr

from behaviorlm.config import with_values
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.search.cost import StageCosts, times_run
from behaviorlm_ray.search.findings import Findings, TrialOutcome, finished
from behaviorlm_ray.search.objective import MEAN, compared_by, pareto_front
from behaviorlm_ray.search.settings import WINNING_ARM, trial_settings
from behaviorlm_ray.search.space import Parameters
from behaviorlm_ray.storage import Location, read_bytes, remove_if, write_replacing

SUMMARY = "summary.json"
WINNER = "winner.yaml"


def summarized(
    found: Findings, costs: StageCosts, root: Location, before: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """What summary.json holds; before: the attempts of stages that were there when the search began."""
    settings, charged = found.settings, found.charged
    used = {stage for outcome in charged for stage in outcome.stages.values()}
    stages, cut_short = times_run(root, before, used)
    # later rungs replace earlier ones
    whole = {each.task.trial: costs.whole(each) for each in found.outcomes if each.error is None}
    spent, metric, best = costs.spent(charged), compared_by(settings.objective), found.best
    return {
        "ended_by": found.ending,
        "trials": [trial.model_dump(mode="json", exclude={"stages"}) for trial in found.trials],
        "stages": stages,
        "stages_cut_short": cut_short,
        "stages_without_cost": costs.uncounted(used),
        "cost": spent.tokens,
        "cost_unshared": sum(whole.values()),
        "cost_unit": "tokens through a model: tuning, scoring of difficulty, validation",
        "sample_epochs": spent.sample_epochs,
        "gpu_hours": spent.gpu_hours,
        "objective": settings.objective.model_dump(mode="json") | {"floor_value": found.floor},
        "winner": best and best.model_dump(mode="json", include={"trial", "parameters", "metrics"}),
        "pareto": front_of(found.trials),
        "alike": alike(found.trials),
        "rung_correlation": rung_correlation(found.trials, settings.scheduler.number_of_rungs, metric),
        "compared_by": metric,
    }


def winning_run(run: Mapping[str, Any], parameters: Parameters, name: str) -> RunSettings:
    """The run of the winner: the base run with its parameters, under a name of its own, A+B among its arms."""
    arms = list(dict.fromkeys([*run["evaluation"]["arms"], WINNING_ARM]))
    return trial_settings(with_values(run, {"name": name, "evaluation.arms": arms}), parameters)


def write_summary(folder: Location, summary: Mapping[str, Any]) -> None:
    """Write summary.json, replaced as a whole. Raises StorageError."""
    write_replacing(folder / SUMMARY, json.dumps(summary, indent=1).encode())


def write_winner(folder: Location, winner: RunSettings | None) -> None:
    """Write winner.yaml, which `behaviorlm run --config` runs; without a winner, remove that of before."""
    old = read_bytes(folder / WINNER)
    if winner is not None:
        text = yaml.safe_dump(winner.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        write_replacing(folder / WINNER, text.encode())
    elif old is not None:
        remove_if(folder / WINNER, old)


def front_of(trials: Sequence[TrialOutcome]) -> list[int]:
    """Numbers of the whole trials that no other beats in one metric without being worse in the other."""
    whole = finished(trials)
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
    at = [{each.rung: each.metrics[metric] or 0.0 for each in trial.rungs} for trial in trials]
    for rung in range(1, rungs):
        pairs = [(values[rung], values[rungs]) for values in at if {rung, rungs} <= values.keys()]
        value = None
        if len(pairs) > 2 and all(len(set(side)) > 1 for side in zip(*pairs, strict=True)):
            value = float(spearmanr(*zip(*pairs, strict=True)).statistic)
        found.append({"rung": rung, "last": rungs, "trials": len(pairs), "spearman": value})
    return found
