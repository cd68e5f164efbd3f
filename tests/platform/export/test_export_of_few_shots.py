"""A predictor of few shots answers with probabilities at the natural prior, from its folder alone."""

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from behaviorlm.baselines.habits import Habits
from behaviorlm.predictor.artifact import Artifact, FusedPredictor
from behaviorlm.predictor.behavior_model import BehaviorModel, Choices
from behaviorlm.predictor.histories import History
from behaviorlm_ray.export.exporting import ExportPlan, export, prepared_histories
from behaviorlm_ray.export.finished_run import FinishedRun, open_finished
from behaviorlm_ray.preparation.prepared_log import counts_of, rows_of_split
from tests.platform.export.finished_runs import finished_run


@pytest.fixture(scope="module")
def run(small_base: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    with pytest.MonkeyPatch.context() as monkeypatch:
        root = tmp_path_factory.mktemp("few")
        made = finished_run(root, small_base, monkeypatch, "few_shot.tail_samples=3")
    return open_finished(str(made.output_folder))


def by_counting(
    model: BehaviorModel, histories: list[History], back: np.ndarray, habits: Habits
) -> np.ndarray:
    """Back-off brought to the natural prior, and then the habits in each history; float64[n, K]."""
    counts, names = model.parts.counts, model.artifact.names
    assert counts is not None
    pasts = [[names.index(name) for name in one.events["behavior"].to_pylist()] for one in histories]
    contexts = counts.context_codes(pa.concat_tables([one.now for one in histories]))
    said = np.exp(counts.log_probabilities(pasts, contexts).astype(np.float64)) * back
    said /= said.sum(axis=1, keepdims=True)
    for row, past in enumerate(pasts):
        followed = [two for one, two in itertools.pairwise(past) if one == past[-1]]
        for events, concentration in ((past, habits.of_user), (followed, habits.of_last)):
            counted = np.bincount(np.array(events, np.int64), minlength=len(names))
            said[row] = (counted + concentration * said[row]) / (len(events) + concentration)
    return said


def shares(counts: np.ndarray) -> np.ndarray:
    return (counts + 1) / (counts + 1).sum()


@pytest.mark.parametrize("name", ["one_stage+plain", "one_stage+adjusted", "counts", "one_stage+counts"])
def test_a_folder_brings_probabilities_back_as_the_run_does(
    run: FinishedRun, name: str, tmp_path: Path
) -> None:
    export(ExportPlan(str(run.folder), str(tmp_path / "out"), name))
    model = BehaviorModel.load(tmp_path / "out", device="cpu")
    artifact: Artifact = model.artifact
    histories = prepared_histories(run, run.samples.test)
    used = counts_of(run.log, rows_of_split(run.log, "train"))
    is_tail = ~run.log.vocabulary.is_anchor
    assert used[is_tail].max() == 3 and run.log.vocabulary.counts[is_tail].max() > 3
    assert artifact.counts.tolist() == run.log.vocabulary.counts.tolist()
    if "one_stage" in name:
        assert [behavior.trained_on for behavior in artifact.behaviors] == used.tolist()
    back = shares(artifact.counts) / shares(used)
    parts = []
    if name != "counts":
        scores = model.parts.label_scores(histories).astype(np.float64)
        parts.append(np.exp(scores - scores.max(axis=1, keepdims=True)) * back)
    if "counts" in name:
        natural, counting = artifact.to_natural, artifact.counting
        assert natural is not None and natural.counts is not None
        assert counting is not None and counting.habits is not None
        parts.append(by_counting(model, histories, np.exp(natural.counts), counting.habits))
    probabilities = [part / part.sum(axis=1, keepdims=True) for part in parts]
    expected = probabilities[0]
    if len(probabilities) == 2:
        predictor = artifact.predictor
        assert isinstance(predictor, FusedPredictor) and predictor.tail_counts_weight is not None
        weight = np.where(is_tail, predictor.tail_counts_weight, predictor.counts_weight)
        expected = (1 - weight) * probabilities[0] + weight * probabilities[1]
        expected = expected / expected.sum(axis=1, keepdims=True)
    found = model.predict_histories(histories, Choices(k=99))
    assert artifact.calibration is None  # too few validation samples
    for row, prediction in enumerate(found):
        for answer in prediction.answers:
            assert answer.id is not None
            assert answer.probability == pytest.approx(float(expected[row, answer.id]), abs=1e-5)
        if name == "one_stage+plain":
            first = prediction.answers[0].id
            raw = probabilities[0][row] / back
            assert raw[first] == pytest.approx(float(raw.max()))
    assert "Made with few shots: few_shot.tail_samples is 3" in (tmp_path / "out" / "README.md").read_text()


def test_results_and_report_say_so(run: FinishedRun) -> None:
    assert run.results["few_shot"]["tail_samples"] == 3
    assert run.results["few_shot"]["train"]["tail"] < run.results["few_shot"]["train"]["tail_there"]
    assert isinstance(run.folder, Path)
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "few_shot.tail_samples is 3" in page
