"""Stages that score: what is kept for a later attempt, whose scores go to which sample, retention."""

import functools
import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from behaviorlm.errors import StorageError
from behaviorlm.model.adapters import load_trained
from behaviorlm.model.base_model import load_model
from behaviorlm.prompts.encoded_conversations import Conversation
from behaviorlm.selection.config import SelectionConfig
from behaviorlm.trees.token_tree import TreeWriter
from behaviorlm_ray import storage
from behaviorlm_ray.pipeline import model_scores
from behaviorlm_ray.pipeline.score import score_difficulty
from behaviorlm_ray.pipeline.select import select_samples
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.pipeline.tune import SELECTION
from behaviorlm_ray.preparation import prepared_log as prepared
from behaviorlm_ray.preparation.prepared_log import PreparedLog
from behaviorlm_ray.scoring import pool as scoring
from behaviorlm_ray.scoring.replica import open_scorer
from behaviorlm_ray.scoring.retention import measure_retention
from behaviorlm_ray.scoring.score_files import ScoresByPlace, open_scores
from behaviorlm_ray.stages.attempts import StageFolder, StageResult
from behaviorlm_ray.stages.finding import StageOutput
from behaviorlm_ray.stages.manifests import package_versions
from tests.platform.sample_groups import group_names
from tests.platform.scoring.pool_runs import POOL, plain_nll, plain_scores, task_of
from tests.platform.single_stage import run_stage


def trained_stage(root: Path, name: str, model: Path) -> StageOutput:
    """A finished stage that holds the model, as one of tuning does."""

    def body(stage: StageFolder) -> StageResult:
        with storage.writing(stage.output) as output:
            shutil.copytree(model, output / "model")
        return StageResult()

    return run_stage(root, name, 1, {}, {}, body)


@pytest.mark.usefixtures("ray_cluster")
def test_a_stage_that_was_cut_short_after_scoring_scores_nothing_again_unless_the_code_has_changed(
    settings: RunSettings,
    prepared_stage: StageOutput,
    tuned: list[Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = {"prepared": prepared_stage, "model": trained_stage(tmp_path, "a_tune", tuned[0])}
    few = settings.difficulty.model_copy(update={"max_per_behavior": 3})
    changed = settings.model_copy(update={"difficulty": few})

    def cut_short(folder: StageFolder) -> StageResult:
        score_difficulty(folder, made, changed)
        raise StorageError("the machine is gone")

    def run(body: Callable[[StageFolder], StageResult]) -> StageOutput:
        return run_stage(tmp_path, "score", 1, {}, {}, body)

    with pytest.raises(StorageError):
        run(cut_short)
    monkeypatch.setattr(model_scores, "package_versions", lambda: package_versions() | {"torch": "next"})
    capfd.readouterr()
    with pytest.raises(StorageError):
        run(cut_short)
    assert "are there already" not in capfd.readouterr().out
    monkeypatch.undo()
    output = run(lambda folder: score_difficulty(folder, made, changed))
    samples = output.manifest.rows["samples"]
    assert f"scoring: {samples} samples are there already" in capfd.readouterr().out
    assert len(pq.read_table(output.folder / "difficulty.parquet")) == samples > 0


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("with_reference", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_crossed_models_and_references_judge_the_half_they_have_not_seen_each_measure_at_its_sample(
    settings: RunSettings,
    prepared_stage: StageOutput,
    log: PreparedLog,
    tuned: list[Path],
    tmp_path: Path,
    with_reference: bool,
) -> None:
    names = ("model_half_0", "model_half_1", "reference_half_0", "reference_half_1")
    models: dict[str, StageOutput] = {
        name: trained_stage(tmp_path, name, folder)
        for name, folder in zip(names, tuned, strict=True)
        if with_reference or name.startswith("model")
    }
    changed = settings.model_copy(
        update={
            "difficulty": settings.difficulty.model_copy(
                update={"source": "cross_fit", "max_per_behavior": 6}
            )
        }
    )
    scored = run_stage(
        tmp_path,
        "score",
        1,
        {},
        {},
        lambda folder: score_difficulty(folder, {"prepared": prepared_stage, **models}, changed),
    )
    table = pq.read_table(scored.folder / "difficulty.parquet")
    rows = prepared.limit_per_behavior(log, prepared.rows_of_split(log, "train"), 6, settings.difficulty.seed)
    assert table["sample_id"].to_pylist() == [bytes(one) for one in prepared.gather(log, rows, "sample_id")]
    targets = prepared.gather(log, rows, "behavior")
    assert table["behavior"].to_pylist() == targets.tolist()

    groups = group_names(log, rows)
    half = np.array([hashlib.blake2b(group.encode(), digest_size=1).digest()[0] & 1 for group in groups])
    assert 0 < half.sum() < len(half)
    nll = [
        plain_nll(plain_scores(load_trained(settings.model, folder).eval(), log, rows), targets)
        for folder in tuned[: len(models)]
    ]
    assert abs(nll[0] - nll[1]).max() > 0.01
    expected = np.where(half == 1, nll[0], nll[1])
    np.testing.assert_allclose(table["nll"].to_numpy(), expected, atol=1e-4)
    assert table["judge"].to_pylist() == (1 - half).tolist()
    assert ("reducible" in table.column_names) == with_reference
    if with_reference:
        reference = np.where(half == 1, nll[2], nll[3])
        np.testing.assert_allclose(table["reducible"].to_numpy(), expected - reference, atol=1e-4)


@pytest.mark.usefixtures("ray_cluster")
def test_a_limit_that_leaves_one_half_nothing_to_judge_is_no_failure(
    settings: RunSettings, prepared_stage: StageOutput, log: PreparedLog, tuned: list[Path], tmp_path: Path
) -> None:
    rows = prepared.rows_of_split(log, "train")
    few, seed = next(
        (few, seed)
        for seed in range(5000)
        if len(set(prepared.half_of(log, few := prepared.limit_per_behavior(log, rows, 1, seed)))) == 1
    )
    changes = {"source": "cross_fit", "max_per_behavior": 1, "seed": seed}
    changed = settings.model_copy(
        update={"difficulty": settings.difficulty.model_copy(update=changes)},
    )
    models = {f"model_half_{half}": trained_stage(tmp_path, f"half_{half}", tuned[half]) for half in (0, 1)}
    scored = run_stage(
        tmp_path,
        "score",
        1,
        {},
        {},
        lambda folder: score_difficulty(folder, {"prepared": prepared_stage, **models}, changed),
    )
    table = pq.read_table(scored.folder / "difficulty.parquet")
    assert table["sample_id"].to_pylist() == [bytes(one) for one in prepared.gather(log, few, "sample_id")]
    assert set(table["judge"].to_pylist()) == {1 - prepared.half_of(log, few)[0]}
    assert np.isfinite(table["nll"].to_numpy()).all()


def test_what_two_judges_scored_is_selected_from_both_halves_alike(
    settings: RunSettings, prepared_stage: StageOutput, log: PreparedLog, tmp_path: Path
) -> None:
    """One judge finds everything ten nats harder; without alignment the selection would be of its half alone."""
    rows = prepared.rows_of_split(log, "train")
    behavior, judge = prepared.gather(log, rows, "behavior"), 1 - prepared.half_of(log, rows)
    ids = pa.array([bytes(one) for one in prepared.gather(log, rows, "sample_id")], pa.binary(16))
    nll = np.random.default_rng(0).uniform(1, 3, len(behavior)) + 10 * judge
    table = pa.table({"sample_id": ids, "behavior": behavior, "nll": nll, "judge": judge})

    def scored(stage: StageFolder) -> StageResult:
        with storage.writing(stage.output) as output:
            pq.write_table(table, output / "difficulty.parquet")
        return StageResult()

    hard = settings.model_copy(
        update={
            "difficulty": settings.difficulty.model_copy(update={"measure": "nll", "source": "cross_fit"}),
            "selection": SelectionConfig(total=0.5, balance=0.0, within="hard"),
        }
    )
    finished = run_stage(tmp_path, "score", 1, {}, {}, scored)
    chosen = run_stage(
        tmp_path,
        "select",
        1,
        {},
        {},
        lambda folder: select_samples(folder, {"prepared": prepared_stage, "score": finished}, hard),
    )
    selected = np.isin(ids.to_pylist(), pq.read_table(chosen.folder / SELECTION)["sample_id"].to_pylist())
    assert abs(selected[judge == 0].mean() - selected[judge == 1].mean()) < 0.1
    as_scored = np.argsort(-nll)[: (judge == 1).sum()]
    assert judge[as_scored].all(), "the halves would not be alike by chance"


@pytest.mark.usefixtures("ray_cluster")
def test_questions_without_history_are_scored_once_and_kept_for_a_later_attempt(
    settings: RunSettings,
    log: PreparedLog,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(scoring, "QUESTIONS", 5)
    rows = prepared.rows_of_split(log, "train")
    task = task_of(settings, log, None)
    scoring.score_questions(task, rows, tmp_path / "first", POOL)
    found, question_of = prepared.distinct_questions(log, rows)
    every = [np.arange(len(found.lengths()))]

    def scores_in(folder: Path) -> np.ndarray:
        batches = open_scores(folder, every).batches(every, len(log.vocabulary))
        return ScoresByPlace(batches, len(every[0]), len(log.vocabulary))(question_of)

    scores = scores_in(tmp_path / "first")
    questions = [part.questions[row] for part, few in zip(log.parts, rows, strict=True) for row in few]
    distinct = list({question.tobytes(): question for question in questions}.values())
    assert 2 * scoring.QUESTIONS < len(distinct) < len(questions)
    scorer = open_scorer(task)

    def write(writer: TreeWriter, asked: list[np.ndarray]) -> list[int]:
        writer.open(log.prompt.instruction_ids)
        return [writer.leaf(question) for question in asked]

    chunks = [
        distinct[start : start + scoring.QUESTIONS] for start in range(0, len(distinct), scoring.QUESTIONS)
    ]
    alone = np.concatenate([scorer.score(functools.partial(write, asked=chunk)) for chunk in chunks])
    of = {question.tobytes(): row for question, row in zip(distinct, alone, strict=True)}
    np.testing.assert_array_equal(scores, np.stack([of[question.tobytes()] for question in questions]))

    names = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert len(names) == len(chunks)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "first").iterdir()}
    capsys.readouterr()
    nothing_to_score = replace(task, trained=tmp_path / "no such model")
    scoring.score_questions(nothing_to_score, rows, tmp_path / "second", POOL, [tmp_path / "first"])
    np.testing.assert_array_equal(scores_in(tmp_path / "second"), scores)
    assert f"{len(distinct)} questions are there already" in capsys.readouterr().out
    assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "first").iterdir()}


def test_retention_is_the_loss_of_each_conversation_run_alone(
    ray_cluster: None, settings: RunSettings, log: PreparedLog
) -> None:
    generator = np.random.default_rng(5)
    base = load_model(settings.model).eval()
    conversations = []
    for length in (*generator.integers(4, 400, 12), 1500):
        is_assistant = generator.random(length) < 0.4
        is_assistant[[0, -1]] = False, True
        ids = generator.integers(0, base.config.vocab_size, length, dtype=np.int32)
        conversations.append(Conversation(ids, is_assistant, is_truncated=False))
    measured = measure_retention(task_of(settings, log, None), {"talks": conversations, "none": []})
    found = measured.pop("talks")
    assert not measured
    alone = []
    for talk in conversations:
        ids = torch.from_numpy(talk.token_ids.astype(np.int64))
        with torch.no_grad():
            log_probabilities = base(ids[None]).logits[0].double().log_softmax(-1)
        predicted = torch.from_numpy(np.flatnonzero(talk.is_assistant))
        alone.append(-log_probabilities[predicted - 1, ids[predicted]].numpy())
    assert found["conversations"] == len(conversations)
    np.testing.assert_allclose(found["loss"], np.concatenate(alone).mean(), rtol=1e-5)
    np.testing.assert_allclose(found["conversation_loss"], np.mean([nll.mean() for nll in alone]), rtol=1e-5)
