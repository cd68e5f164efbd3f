"""Replicas score with the normalization that they are told, in this process: what the settings ask for reaches them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from behaviorlm_ray.pipeline.model_scores import scoring_task
from behaviorlm_ray.preparation.prepared_log import PreparedLog
from behaviorlm_ray.scoring.replica import Replica
from tests.behaviorlm.tiny_models import CONFIGS
from tests.platform.preparation.test_prepared_log import random_log
from tests.platform.small_runs import run_settings

ROWS = [5, 6, 7, 9]


def scored(tmp_path: Path, log: PreparedLog, normalization: str, *, measures: bool) -> pa.Table:
    base = tmp_path / "base"
    CONFIGS["llama"].save_pretrained(base)
    drawn = ("model.random_init=true", f"scoring.normalization={normalization}")
    settings = run_settings(tmp_path / "runs", base, tmp_path / "log.csv", overrides=drawn)
    task = scoring_task(settings, log, None, measures=measures)
    batch = pa.table({"part": [0], "rows": pa.array([ROWS], pa.list_(pa.int64()))})
    return Replica(task)(batch)


@pytest.mark.parametrize("normalization", ["full", "trie"])
def test_scores_are_normalized_as_the_settings_say(normalization: str, tmp_path: Path) -> None:
    log = random_log(1, [[30, 20], [40, 3, 9]])
    table = scored(tmp_path, log, normalization, measures=False)
    scores = (
        table["label_scores"].combine_chunks().values.to_numpy().reshape(len(ROWS), -1).astype(np.float64)
    )
    whole = np.exp(scores).sum(axis=1)
    if normalization == "trie":
        assert whole == pytest.approx(1, abs=1e-6)
    else:
        assert (whole < 0.5).all()  # the rest is of texts that are no names
    measured = scored(tmp_path, log, normalization, measures=True)
    targets = log.parts[0].behavior[ROWS]
    nll = np.log(whole) - scores[np.arange(len(ROWS)), targets]
    assert measured["nll"].combine_chunks().values.to_numpy() == pytest.approx(nll, abs=1e-5)
