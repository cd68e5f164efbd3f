"""A check of a predictor on a new log: measured as by hand, judged by its limits, and recalibrated where asked for."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from behaviorlm.errors import ConfigError, DataError
from behaviorlm.predictor.answers import calibrated
from behaviorlm.predictor.artifact import Calibration, read_artifact
from behaviorlm.predictor.behavior_model import BehaviorModel
from behaviorlm_ray.prediction.checking import Checked, check, plan_check
from behaviorlm_ray.prediction.drift import Drift, drift
from behaviorlm_ray.prediction.judgment import judge
from behaviorlm_ray.prediction.recalibrating import fit, write_recalibrated
from behaviorlm_ray.prediction.settings import CheckSettings, Limits
from tests.behaviorlm.predictor.small_artifacts import NAMES, history, write_artifact
from tests.platform.prediction.predicted_logs import HereAndNow, user_rows, write_rows

USERS = [14] * 30
STILL = Drift(0.0, {}, 0.01, 0.02, (), (), 0.0)
BINS = pa.table({"low": [0.0], "high": [1.0], "samples": [9], "mean_confidence": [0.5], "accuracy": [0.5]})


@pytest.fixture(scope="module")
def overconfident(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A counting artifact that is far too sure of what it says."""
    folder = tmp_path_factory.mktemp("artifact") / "counts"
    calibration = Calibration(anchor_temperature=0.2, tail_temperature=0.2)
    write_artifact(folder, Path(), "counts", calibration=calibration)
    (folder / "README.md").write_text("# card\n", encoding="utf-8")
    return folder


def checked(model: Path, log: Path, work: Path, **keys: Any) -> Checked:
    settings = CheckSettings(model=str(model), log=[str(log)], work=str(work), bootstrap_samples=50, **keys)
    return check(plan_check(settings, work), HereAndNow(), settings.limits, settings.bootstrap_samples)


def metrics(accuracy: float, error: float, spread: float = 0.01) -> Any:
    def interval(value: float) -> dict[str, float]:
        return {"value": value, "low": value - spread, "high": value + spread}

    of_group = {"accuracy": interval(accuracy), "expected_calibration_error": interval(error)}
    return dict.fromkeys(("all", "anchor", "tail"), of_group)


@pytest.mark.parametrize(
    ("now", "moved", "verdict"),
    [
        (metrics(0.49, 0.02), STILL, "keep"),
        (metrics(0.49, 0.08), STILL, "recalibrate"),
        (metrics(0.49, 0.055), STILL, "keep"),  # not surely above the limit
        (metrics(0.45, 0.08), STILL, "tune again"),
        (metrics(0.45, 0.02, spread=0.05), STILL, "keep"),  # not surely worse
        (metrics(0.49, 0.02), Drift(0.06, {"new": 6}, 0.06, 0.02, (), (), 0.0), "tune again"),
        (metrics(0.49, 0.02), Drift(0.0, {}, 0.25, 0.3, (), (), 0.0), "keep"),  # no more than by chance
        (metrics(0.49, 0.02), Drift(0.0, {}, 0.25, 0.1, (), (), 0.0), "tune again"),
        (metrics(0.49, 0.02), Drift(0.0, {}, 0.1, 0.02, ("camera",), (), 0.2), "tune again"),
    ],
)
def test_the_verdict_is_the_gravest_that_a_figure_beyond_its_limit_asks_for(
    now: Any, moved: Drift, verdict: str
) -> None:
    found = judge(now, metrics(0.5, 0.02), moved, BINS, Limits())
    assert found.verdict == verdict and found.lines[0].startswith(f"{verdict}: ")
    assert judge(now, {}, STILL, BINS, Limits()).verdict != "tune again"  # nothing to compare it with


def test_drift_is_what_it_is_by_hand() -> None:
    targets = np.array([0] * 50 + [1] * 30 + [2] * 10 + [-1] * 10)
    found = drift(
        targets,
        {"new": 3, "newer": 7},
        ("a", "b", "c", "d"),
        np.array([80, 0, 10, 10]),
        np.array([True, False, True, True]),
        0.01,
    )
    assert found.unseen == 0.1 and list(found.new_names) == ["newer", "new"]
    assert found.total_variation == pytest.approx((0.3 + 0.3 + 0.0 + 0.1 + 0.1) / 2)
    assert (found.became_anchor, found.became_tail, found.switched) == (("b",), ("d",), 0.3)
    assert 0 < found.by_chance < 0.15


@pytest.mark.parametrize("counts", [(80, 15, 4, 1), (50, 40, 5, 5), (970, 20, 9, 1)])
def test_a_log_like_the_trained_one_has_no_behavior_on_another_side_whatever_the_run_called_an_anchor(
    counts: tuple[int, ...],
) -> None:
    targets, is_anchor = np.repeat(np.arange(4), counts), np.array([True, True, False, False])
    names = ("a", "b", "c", "d")
    found = drift(targets, {}, names, np.array(counts), is_anchor, None)
    assert (found.became_anchor, found.became_tail, found.switched) == ((), (), 0.0)
    assert drift(targets, {}, names, np.array(counts), is_anchor, 0.5).became_tail


def test_it_measures_what_the_model_says_and_counts_what_it_does_not_know(
    overconfident: Path, tmp_path: Path
) -> None:
    rows = user_rows(USERS)
    for row in rows[::20]:
        row["behavior"] = "never heard of"
    found = checked(overconfident, write_rows(tmp_path / "log.csv", rows), tmp_path / "work")
    model, right, sure, size = BehaviorModel.load(overconfident), 0, 0.0, 0
    for user in range(len(USERS)):
        events = [row for row in reversed(rows) if row["user"] == f"user {user}"]
        for position in range(1, len(events)):
            following = events[position]
            said = model.predict(events[:position], {"room": following["room"]}, at=following["time"], k=1)
            right += said.behavior == following["behavior"]
            sure += said.answers[0].probability
            size += 1
    outcomes = found.positions.outcomes
    assert len(outcomes) == size == sum(USERS) - len(USERS)
    assert found.judgment.metrics["all"]["accuracy"]["value"] == pytest.approx(right / size)
    assert outcomes.confidence.sum() == pytest.approx(sure)
    assert found.positions.unseen["never heard of"] == (outcomes.target < 0).sum()
    assert found.judgment.verdict == "tune again"  # 5 % and more are not known, and the mix is another
    written = json.loads((tmp_path / "work/check.json").read_text(encoding="utf-8"))
    assert written["verdict"] == "tune again" and written["drift"]["unseen"] == found.judgment.drift.unseen


def test_a_recalibrated_one_is_less_wrong_about_itself_and_answers_the_same(
    overconfident: Path, tmp_path: Path
) -> None:
    log = write_rows(tmp_path / "log.csv", user_rows(USERS))
    to = tmp_path / "new"
    found = checked(overconfident, log, tmp_path / "work", recalibrate=True, to=str(to))
    artifact = read_artifact(overconfident)
    assert len(found.positions.kept) == len(found.positions.outcomes)
    model = BehaviorModel.load(overconfident)
    said = model.predict(history(14, seed=0)[:1], {"room": history(14)[1]["room"]}, at=history(14)[1]["time"])
    shown = np.exp(calibrated(found.positions.kept, artifact.is_anchor, artifact.calibration))
    assert np.isclose(shown.max(axis=1), said.answers[0].probability).any()
    fitted = fit(found)
    assert fitted.before is not None and fitted.after is not None and fitted.after < fitted.before / 2
    write_recalibrated(found, fitted, str(overconfident), str(to))
    new = BehaviorModel.load(to)
    assert new.artifact.calibration == fitted.calibration != artifact.calibration
    assert new.artifact.origin.fingerprints["recalibrated_from"] == artifact.fingerprint
    before, after = (one.predict(history(9), k=len(NAMES)).answers for one in (model, new))
    assert [answer.behavior for answer in before] == [answer.behavior for answer in after]
    assert before[0].probability > after[0].probability
    assert "## Recalibrated" in (to / "README.md").read_text(encoding="utf-8")
    with pytest.raises(ConfigError, match="holds files already"):
        write_recalibrated(found, fitted, str(overconfident), str(to))
    again = checked(to, log, tmp_path / "again")
    error = again.judgment.metrics["all"]["expected_calibration_error"]["value"]
    assert error is not None and error < 0.1


def test_too_little_to_judge_by_is_said(overconfident: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has 3 events .* a check needs 50"):
        checked(overconfident, write_rows(tmp_path / "log.csv", user_rows([4])), tmp_path / "work")
    log = write_rows(tmp_path / "frequent.csv", [row | {"behavior": "door"} for row in user_rows(USERS)])
    found = checked(overconfident, log, tmp_path / "other", recalibrate=True, to=str(tmp_path / "new"))
    with pytest.raises(DataError, match="0 are tail behaviors"):
        fit(found)
    with pytest.raises(ValueError, match="belong together"):
        CheckSettings(model="a", log=["b"], recalibrate=True)
