"""What a search found: its trials, how often each stage ran for them, the winner."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from behaviorlm.config import Settings
from behaviorlm_ray.search.settings import Parameters, trial_settings
from behaviorlm_ray.search.trial import OBJECTIVE
from behaviorlm_ray.storage import write_replacing

SUMMARY = "summary.json"
WINNER = "winner.yaml"


class TrialOutcome(Settings):
    """One trial."""

    parameters: Parameters = Field(description="Dotted keys of the run and their values.")
    status: str = Field(description="finished, failed, or unfinished where the search was interrupted.")
    metrics: dict[str, float | None] = Field(
        default_factory=dict, description="The objective and its parts, on validation."
    )
    stages: dict[str, str] = Field(default_factory=dict, description="Folder of each stage it used.")
    error: str | None = Field(default=None, description="Why it failed.")


def attempts_of_stages(root: Path) -> dict[str, set[str]]:
    """The attempts that lie below the root, by stage folder (`<stage>-<fingerprint>`)."""
    return {
        folder.parent.name: {attempt.name for attempt in folder.iterdir()}
        for folder in (root / "stages").glob("*/attempts")
    }


def times_run(
    before: Mapping[str, set[str]], after: Mapping[str, set[str]], used: Iterable[str]
) -> dict[str, int]:
    """How many attempts each stage had between two states of the storage; stages in use that did not run have 0."""
    counts = {stage: len(attempts - before.get(stage, set())) for stage, attempts in after.items()}
    names = sorted(set(used) | {stage for stage, number in counts.items() if number})
    return {stage: counts.get(stage, 0) for stage in names}


def winner_of(trials: Sequence[TrialOutcome]) -> TrialOutcome | None:
    """The finished trial with the greatest objective, of equal ones the first; None without a finished trial."""
    finished = [trial for trial in trials if trial.status == "finished"]
    return max(finished, key=lambda trial: trial.metrics[OBJECTIVE] or 0.0, default=None)


def write_summary(
    folder: Path, run: Mapping[str, Any], trials: Sequence[TrialOutcome], stages: Mapping[str, int]
) -> TrialOutcome | None:
    """Write summary.json and, if a trial finished, winner.yaml, which `jobs.run --config` runs. Returns the winner."""
    folder.mkdir(parents=True, exist_ok=True)
    winner = winner_of(trials)
    summary = {
        "trials": [trial.model_dump(mode="json", exclude={"stages"}) for trial in trials],
        "stages": dict(stages),
        "winner": None
        if winner is None
        else winner.model_dump(mode="json", include={"parameters", "metrics"}),
    }
    write_replacing(folder / SUMMARY, json.dumps(summary, indent=1).encode())
    if winner is None:
        (folder / WINNER).unlink(missing_ok=True)
        return None
    settings = trial_settings(run, winner.parameters).model_dump(mode="json")
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    write_replacing(folder / WINNER, text.encode())
    return winner
