"""A new version of an artifact whose probabilities fit a new log: the same scores, another calibration."""

import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from behaviorlm.errors import ConfigError, DataError
from behaviorlm.metrics.intervals import measure_outcomes
from behaviorlm.metrics.outcomes import Outcomes, outcomes
from behaviorlm.predictor.answers import calibrated, candidates, decided
from behaviorlm.predictor.artifact import CARD, Artifact, Calibration, Intervals, Threshold
from behaviorlm.predictor.places import local_folder
from behaviorlm.predictor.writing import write_description
from behaviorlm_ray import storage
from behaviorlm_ray.export.exporting import unfinished
from behaviorlm_ray.export.measuring import LEAST_SAMPLES, most_likely, thresholds
from behaviorlm_ray.prediction.checking import Checked

ECE = "expected_calibration_error"


@dataclass(frozen=True)
class Recalibrated:
    """The calibration that fits, and the calibration error of the users whom it was not fitted on, before and after."""

    calibration: Calibration
    before: float | None
    after: float | None
    thresholds: list[Threshold]


def check_target(to: str) -> None:
    """Raise ConfigError where something lies there."""
    if files := storage.list_files(storage.location(to)):
        raise ConfigError(f"to: {to} holds files already, such as {files[0]}; choose another place")


def fit(checked: Checked) -> Recalibrated:
    """Of the positions whose log probabilities were kept. Raises DataError where a group has too few of them.

    One half of the users is for measuring; what is handed on is then fitted on all.
    """
    artifact, positions = checked.artifact, checked.positions
    known = positions.outcomes.target[positions.kept_places] >= 0
    places, scores = positions.kept_places[known], positions.kept[known]
    targets = positions.outcomes.target[places]
    of_anchor = int(artifact.is_anchor[targets].sum())
    if min(of_anchor, len(targets) - of_anchor) < LEAST_SAMPLES:
        raise DataError(
            f"recalibrate: {of_anchor} events of the log are anchors and {len(targets) - of_anchor} are tail behaviors "
            f"of the vocabulary; each group needs {LEAST_SAMPLES}"
        )
    is_fitted = positions.user[places] % 2 == 0
    rest = ~is_fitted
    one = most_likely(scores[is_fitted], targets[is_fitted], artifact.is_anchor)
    calibration = most_likely(scores, targets, artifact.is_anchor)
    return Recalibrated(
        calibration,
        _error(artifact, scores[rest], targets[rest], artifact.calibration),
        _error(artifact, scores[rest], targets[rest], one),
        _thresholds(artifact, scores, targets, calibration),
    )


def write_recalibrated(checked: Checked, found: Recalibrated, model: str, to: str) -> None:
    """Copy the artifact with the new calibration. Raises ConfigError where something lies there."""
    check_target(to)
    artifact = checked.artifact
    fingerprints = artifact.origin.fingerprints | {
        "recalibrated_from": artifact.fingerprint,
        "recalibrated_on": checked.log,
    }
    origin = artifact.origin.model_copy(
        update={
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "fingerprints": fingerprints,
        }
    )
    changed = artifact.model_copy(
        update={
            "calibration": found.calibration,
            "thresholds": found.thresholds,
            "metrics": _without_calibration_error(artifact.metrics),
            "origin": origin,
        }
    )
    with local_folder(model) as source, unfinished(storage.location(to)) as folder:
        shutil.copytree(source, folder, dirs_exist_ok=True, symlinks=False)
        write_description(folder, changed)
        card = folder / CARD
        text = card.read_text(encoding="utf-8") if card.is_file() else ""
        card.write_text(text + _section(checked, found), encoding="utf-8")


def told(found: Recalibrated, to: str) -> list[str]:
    """For people."""
    return [
        f"recalibrated: expected calibration error {_number(found.before)} before, {_number(found.after)} after, on "
        "the half of the users that was not fitted on",
        f"wrote the recalibrated predictor to {to}",
    ]


def _error(
    artifact: Artifact,
    scores: NDArray[np.float64],
    targets: NDArray[np.int32],
    calibration: Calibration | None,
) -> float | None:
    outcomes = _outcomes(artifact, scores, targets, calibration)
    return measure_outcomes(outcomes, artifact.is_anchor)["all"][ECE]


def _outcomes(
    artifact: Artifact,
    scores: NDArray[np.float64],
    targets: NDArray[np.int32],
    calibration: Calibration | None,
) -> Outcomes:
    found = outcomes(decided(scores, candidates(artifact), artifact.decision), targets)
    shown = calibrated(scores, artifact.is_anchor, calibration)
    return replace(found, confidence=np.exp(shown[np.arange(len(shown)), found.predicted]))


def _thresholds(
    artifact: Artifact, scores: NDArray[np.float64], targets: NDArray[np.int32], calibration: Calibration
) -> list[Threshold]:
    found = _outcomes(artifact, scores, targets, calibration)
    return thresholds(found.confidence, found.rank)


def _without_calibration_error(metrics: Intervals) -> Intervals:
    """Of the export's test part, where the old calibration was measured."""
    return {
        group: {
            name: {"value": None, "low": None, "high": None} if name == ECE else value
            for name, value in of_group.items()
        }
        for group, of_group in metrics.items()
    }


def _section(checked: Checked, found: Recalibrated) -> str:
    return (
        "\n## Recalibrated\n\n"
        f"Probabilities were fitted again on a later log of {len(checked.positions.outcomes):,} events. Expected "
        f"calibration error on users who were not fitted on: {_number(found.before)} before, {_number(found.after)} "
        "after. Scores and their order are as they were; what this card says above of calibration and of "
        "`min_probability` is of the version before, and `behaviorlm.json` has the thresholds of this one.\n"
    )


def _number(value: float | None) -> str:
    return "not known" if value is None else f"{value:.3f}"
