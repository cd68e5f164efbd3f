"""One-stage tuning on a thinned log: the subset that B-Tuning at random gets, tuned on from the base."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from behaviorlm_ray import storage
from behaviorlm_ray.export.finished_run import open_finished
from behaviorlm_ray.pipeline.evaluate import TRAINED_ON
from behaviorlm_ray.pipeline.select import SUMMARY
from behaviorlm_ray.pipeline.tune import SELECTION
from tests.platform.export.finished_runs import finished_run


def test_it_is_tuned_once_on_what_ab_random_is_tuned_on_last(
    small_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit, arms = "difficulty.max_per_behavior=12", "untuned, thinned, ab_random"
    run = finished_run(tmp_path, small_base, monkeypatch, limit, arms=arms)
    found = open_finished(str(run.output_folder))
    drawn, selected = (
        found.by_content[found.evaluated.manifest.inputs[f"{arm}.selection"]]
        for arm in ("thinned", "ab_random")
    )
    assert (drawn.manifest.stage, selected.manifest.stage) == ("draw", "select")
    chosen = [
        pq.read_table(storage.local_copy(of.folder / SELECTION))["sample_id"].to_pylist()
        for of in (drawn, selected)
    ]
    assert sorted(chosen[0]) == sorted(chosen[1]) and len(chosen[0]) == 40
    assert found.details[TRAINED_ON]["thinned"] == found.details[TRAINED_ON]["ab_random"]
    summary = json.loads(storage.read_text(drawn.folder / SUMMARY))
    assert {of["mean_difficulty"] for of in summary["behaviors"].values()} == {None}
    model = found.model("thinned")
    assert model is not None and model.manifest.stage == "thinned"
    assert "selection" in model.manifest.inputs and "start" not in model.manifest.inputs
