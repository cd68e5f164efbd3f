"""Opponents in a run: fitted with few shots, measured like arms, told of, and never recommended or exported."""

import json
from pathlib import Path

import numpy as np
import pytest

from behaviorlm.errors import ConfigError
from behaviorlm.opponents.names import budget_of
from behaviorlm.opponents.registry import fit_opponent
from behaviorlm.predictor.rare_histories import MINIMUM
from behaviorlm.scoring.model_names import DECISION_RULES, model_name
from behaviorlm_ray import storage
from behaviorlm_ray.evaluation.counted_log import asked_rows, counted_log
from behaviorlm_ray.export.choice import Measured
from behaviorlm_ray.export.finished_run import open_finished
from behaviorlm_ray.pipeline.evaluate import arm_scores
from behaviorlm_ray.pipeline.oppose import FITS
from behaviorlm_ray.preparation.prepared_log import counts_of, rows_of_split
from tests.platform.export.finished_runs import finished_run
from tests.platform.small_runs import run_settings


def test_they_stand_beside_arms_on_the_same_samples_and_are_never_recommended(
    small_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("evaluation.opponents=[gru4rec, sasrec]", "few_shot.tail_samples=2")
    run = finished_run(tmp_path, small_base, monkeypatch, *asked)
    found = open_finished(str(run.output_folder))
    results, details = found.results, found.details
    assert results["opponents"] == ["gru4rec", "sasrec"]
    assert list(results["validation"]) == ["untuned", "one_stage"] == found.arms
    for name in ("gru4rec", "sasrec"):
        assert {model_name(name, rule) for rule in DECISION_RULES} <= results["models"].keys()
        assert name in details["fronts"] and set(details["validation"][name]) == set(DECISION_RULES)
    compared = {option["predictor"] for option in results["recommended"]["compared"]}
    assert compared.isdisjoint({"gru4rec", "sasrec"}) and "counts" in compared
    assert list(details["mixtures"]) in (["untuned+counts"], ["one_stage+counts"])
    with pytest.raises(ConfigError, match="has no 'gru4rec'"):
        Measured(found, MINIMUM).choose("gru4rec")

    stage = found.by_content[found.evaluated.manifest.inputs["gru4rec"]]
    assert stage.manifest.stage == "oppose_gru4rec"
    timelines = counted_log(found.log, found.samples).timelines
    train = timelines.behavior[timelines.target_rows(0)]
    of_training = counts_of(found.log, rows_of_split(found.log, "train"))
    assert np.array_equal(np.bincount(train, minlength=len(found.log.vocabulary)), of_training)
    assert of_training[~found.log.vocabulary.is_anchor].max() == 2
    again = fit_opponent("gru4rec", timelines, run.settings.prompt.max_events, 0, budget_of("gru4rec"))
    fits = json.loads(storage.read_text(stage.folder / FITS))
    assert fits == [vars(fit) for fit in again.fits] and len(fits) == 2
    scores = arm_scores(stage, found.log, found.samples)
    rows = asked_rows(found.log, found.samples.test)
    said = np.concatenate([batch.label_scores[np.argsort(batch.places)] for batch in scores.test()])
    np.testing.assert_allclose(said, again.predict(timelines, rows), atol=2e-5)
    page = storage.read_text(run.output_folder / "report.html")
    assert "Opponents are measured, not exported" in page


def test_an_opponent_is_listed_once_and_is_no_name_of_an_arm(small_base: Path, tmp_path: Path) -> None:
    for wrong, told in (
        ("evaluation.opponents=[sasrec, sasrec]", "each opponent once"),
        ("evaluation.opponents=[bert]", "evaluation.opponents"),
        ("arms={sasrec: {tuning: untuned}}", "arms: sasrec exist already"),
    ):
        with pytest.raises(ConfigError, match=told):
            run_settings(tmp_path, small_base, tmp_path / "log.csv", overrides=(wrong,))
