"""The records of runs that the repository keeps: every predictor in the form of results.json, and what made them."""

import json
from pathlib import Path

import pytest

from behaviorlm.baselines import BASELINES
from behaviorlm.scoring.model_names import ADJUSTED, model_name
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.report.content import Results
from behaviorlm_ray.report.provenance import MADE
from behaviorlm_ray.report.results import shown_retention
from behaviorlm_ray.report.results_table import results_table

ROOT = Path(__file__).resolve().parents[3]
KEPT = sorted((ROOT / "docs/results").glob("*.json"))


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_a_kept_record_has_the_form_of_results_and_says_what_made_it(path: Path) -> None:
    record = json.loads(path.read_text(encoding="utf-8"))
    made = record.pop(MADE)
    assert made.keys() == {"command", "commit", "seeds", "stages", "versions", "fingerprints", "config"}
    assert made["command"] and len(made["commit"].removesuffix("+changes")) == 12
    settings = RunSettings.model_validate({"name": path.stem, **made["config"]})
    assert not [place for place in settings.events.paths if place.startswith("/")]
    Results.model_validate(record | {"retention": shown_retention(record["retention"])})
    for predictor in (*BASELINES, *settings.evaluation.arms):
        assert model_name(predictor, ADJUSTED) in record["models"]
    assert len(results_table(record)) > len(record["models"])
    assert record["recommended"]["model"] in record["models"]
