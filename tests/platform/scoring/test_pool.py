"""Scoring through the pool of actors against plain sequences, one at a time; whose scores go to which sample."""

import functools
import gc
import hashlib
import pickle
import shutil
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from behaviorlm.errors import ClusterError, StorageError
from behaviorlm.model.adapters import add_adapter, load_trained, save_trained
from behaviorlm.model.base_model import load_model
from behaviorlm.prompts.encoded_conversations import Conversation
from behaviorlm.prompts.encoder import PromptTokens
from behaviorlm.selection.config import SelectionConfig
from behaviorlm.timelines.parts import labels_with_terminator
from behaviorlm.trees.token_tree import TreeWriter
from behaviorlm_ray import storage
from behaviorlm_ray.pipeline import model_scores
from behaviorlm_ray.pipeline.prepare import prepare
from behaviorlm_ray.pipeline.run import open_run
from behaviorlm_ray.pipeline.score import score_difficulty
from behaviorlm_ray.pipeline.select import select_samples
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.pipeline.tune import SELECTION
from behaviorlm_ray.preparation import prepared_log as prepared
from behaviorlm_ray.preparation.prepared_log import PreparedLog, SampleRows
from behaviorlm_ray.scoring import pool as scoring
from behaviorlm_ray.scoring import replica as replicas
from behaviorlm_ray.scoring import score_files
from behaviorlm_ray.scoring.replica import ScoringTask, open_scorer, score_function
from behaviorlm_ray.scoring.retention import measure_retention
from behaviorlm_ray.scoring.score_files import ScoresByPlace, open_scores
from behaviorlm_ray.stages.attempts import StageFolder, StageResult
from behaviorlm_ray.stages.finding import StageOutput
from behaviorlm_ray.stages.manifests import package_versions
from tests.platform.score_reading import whole_scores
from tests.platform.single_stage import run_stage
from tests.platform.small_runs import log_rows, run_settings, write_log

POOL = scoring.ScoringPool(actors=2, windows_per_batch=3, cpus_per_actor=1, use_gpu=False)


@pytest.fixture(scope="module")
def settings(small_base: Path, tmp_path_factory: pytest.TempPathFactory) -> RunSettings:
    folder = tmp_path_factory.mktemp("scoring")
    path = write_log(folder / "log.csv", log_rows(11, users=14, low=5, high=12))
    return run_settings(folder / "runs", small_base, path, overrides=("execution.scoring_actors=1",))


@pytest.fixture(scope="module")
def prepared_stage(ray_cluster: None, settings: RunSettings) -> StageOutput:
    run = open_run(settings)
    return run.runner().run(prepare(run))


@pytest.fixture(scope="module")
def log(prepared_stage: StageOutput, settings: RunSettings) -> PreparedLog:
    return PreparedLog(prepared_stage.folder, settings.prompt)


@pytest.fixture(scope="module")
def tuned(settings: RunSettings, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four models that differ: adapters with random weights, as tuning would save them."""
    folders = []
    for seed in range(4):
        model = add_adapter(load_model(settings.model), settings.model, seed)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        folders.append(tmp_path_factory.mktemp("tuned") / "model")
        save_trained(model, folders[-1])
    return folders


def trained_stage(root: Path, name: str, model: Path) -> StageOutput:
    """A finished stage that holds the model, as one of tuning does."""

    def body(stage: StageFolder) -> StageResult:
        with storage.writing(stage.output) as output:
            shutil.copytree(model, output / "model")
        return StageResult()

    return run_stage(root, name, 1, {}, {}, body)


def task_of(
    settings: RunSettings, log: PreparedLog, trained: Path | None, measures: bool = False
) -> ScoringTask:
    return ScoringTask(log, settings.model, trained, measures, max_tokens=2048, threads=1, use_gpu=False)


def plain_scores(model: nn.Module, log: PreparedLog, rows: SampleRows) -> np.ndarray:
    """Label scores [n, K] of one plain sequence for each sample and label, with nothing shared."""
    labels = labels_with_terminator(log.prompt)
    scores = []
    with torch.inference_mode():
        for part, chosen in zip(log.parts, rows, strict=True):
            lines, questions = part.table["line_ids"].to_pylist(), part.table["question_ids"].to_pylist()
            for row in chosen.tolist():
                history = [token for line in lines[int(part.window_start[row]) : row] for token in line]
                prompt = [*log.prompt.instruction_ids.tolist(), *history, *questions[row]]
                for label in labels:
                    ids = torch.tensor([prompt + label.tolist()])
                    likelihood = torch.log_softmax(model(input_ids=ids).logits[0].float(), dim=-1)
                    at = torch.arange(len(prompt) - 1, len(prompt) - 1 + len(label))
                    scores.append(float(likelihood[at, ids[0, at + 1]].double().sum()))
    return np.array(scores).reshape(-1, len(labels))


def plain_nll(label_scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Surprise at the target over the vocabulary, float64."""
    return np.logaddexp.reduce(label_scores, axis=1) - label_scores[np.arange(len(targets)), targets]


@pytest.fixture(scope="module")
def scored(
    settings: RunSettings, log: PreparedLog, tuned: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The test samples, scored by the pool with a tuned model."""
    folder = tmp_path_factory.mktemp("scored") / "scores"
    rows = prepared.rows_of_split(log, "test")
    assert (
        scoring.score(task_of(settings, log, tuned[0]), rows, folder, POOL).samples
        == prepared.count(rows)
        > 15
    )
    return folder


class GreedyLog(PreparedLog):
    """Its vocabulary's room is asked for on a replica: more than any machine has."""

    def __reduce__(self) -> tuple[Any, ...]:
        return GreedyReplicaLog, (self.folder, self.prompt_config)


class GreedyReplicaLog(PreparedLog):
    @property
    def prompt(self) -> PromptTokens:
        torch.empty(2**50)
        raise AssertionError


def test_full_memory_on_a_replica_names_the_key(
    settings: RunSettings, log: PreparedLog, tmp_path: Path
) -> None:
    task = task_of(settings, GreedyLog(log.folder, log.prompt_config), None)
    with pytest.raises(ClusterError, match=r"DefaultCPUAllocator.*execution\.scoring_tokens \(2048\)"):
        scoring.score(task, prepared.rows_of_split(log, "test"), tmp_path / "scores", POOL)


def test_a_kept_replica_serves_its_own_pool_only_and_is_dropped_when_batches_stop(
    settings: RunSettings,
    log: PreparedLog,
    tuned: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replicas, "KEPT_SECONDS", 600.0)
    rows = prepared.rows_of_split(log, "test")
    batch = scoring._window_table(scoring._windows(log, rows))
    kept = replicas._KeptReplica()
    pickled = [
        pickle.dumps((task_of(settings, log, tuned[number]), tmp_path / str(number))) for number in (0, 1)
    ]
    for number in (0, 1):  # the second pool comes while the first one's replica is still there
        kept.score(batch, f"pool {number}", pickled[number])
        found = whole_scores(tmp_path / str(number), log, rows)
        model = load_trained(settings.model, tuned[number]).eval()
        np.testing.assert_allclose(found, plain_scores(model, log, rows), atol=1e-4)
    replica = weakref.ref(kept._replica)
    monkeypatch.setattr(replicas, "KEPT_SECONDS", 0.05)
    kept.score(batch, "pool 1", b"")  # nothing to unpickle: the replica that is there serves it
    deadline = time.monotonic() + 20
    while replica() is not None and time.monotonic() < deadline:
        gc.collect()
    assert replica() is None


def test_scores_of_the_pool_equal_plain_sequences_in_the_order_of_the_samples(
    settings: RunSettings, log: PreparedLog, tuned: list[Path], scored: Path
) -> None:
    rows = prepared.rows_of_split(log, "test")
    found = whole_scores(scored, log, rows)
    model = load_trained(settings.model, tuned[0]).eval()
    np.testing.assert_allclose(found, plain_scores(model, log, rows), atol=1e-4)
    table = pq.read_table(scored)
    written = [
        (part, row)
        for part, of in zip(table["part"].to_pylist(), table["rows"].to_pylist(), strict=True)
        for row in of
    ]
    assert sorted(written) == [(number, row) for number, chosen in enumerate(rows) for row in chosen.tolist()]
    assert len(list(scored.glob("*.parquet"))) > 1


def test_a_replica_of_the_base_model_scores_as_plain_sequences(
    settings: RunSettings, log: PreparedLog
) -> None:
    rows = prepared.rows_of_split(log, "validation")
    windows = [
        (number, window) for number, part in enumerate(log.parts) for window in part.windows(rows[number])
    ]
    batch = pa.table({"part": [part for part, _ in windows], "rows": [window for _, window in windows]})
    replica = score_function(task_of(settings, log, None))
    found = replica(batch)["label_scores"].combine_chunks().values.to_numpy().reshape(-1, len(log.vocabulary))
    np.testing.assert_allclose(found, plain_scores(load_model(settings.model), log, rows), atol=1e-4)


def test_whole_files_of_an_attempt_that_was_cut_short_are_kept_and_the_rest_is_scored(
    settings: RunSettings,
    log: PreparedLog,
    tuned: list[Path],
    scored: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    rows = prepared.rows_of_split(log, "test")
    task = task_of(settings, log, tuned[0])
    earlier, again = tmp_path / "earlier", tmp_path / "again"
    shutil.copytree(scored, earlier / "first")
    files = sorted((earlier / "first").glob("*.parquet"))
    lost, damaged, *kept = files
    assert kept
    lost.unlink()
    damaged.write_bytes(damaged.read_bytes()[:-20])
    # The same windows in other files, some of which are kept already.
    other = scoring.ScoringPool(actors=1, windows_per_batch=4, cpus_per_actor=1, use_gpu=False)
    scoring.score(task, rows, earlier / "second", other)
    (earlier / "second" / sorted(path.name for path in (earlier / "second").iterdir())[0]).unlink()
    # Another model's scores of the same windows, where they may have come by mistake.
    foreign = ScoringTask(**vars(task_of(settings, log, tuned[1])) | {"owner": "another stage"})
    scoring.score(foreign, rows, earlier / "third", POOL)

    folders = [earlier / name for name in ("first", "second", "third", "missing")]
    counted = scoring.score(task, rows, again, POOL, folders)
    assert (
        f"{damaged} is left from an attempt that was cut short, but cannot be read" in capfd.readouterr().out
    )
    for file in kept:
        assert (again / file.name).read_bytes() == file.read_bytes()
    score_files.check_scores(again, rows)
    assert counted.samples == prepared.count(rows)
    found = whole_scores(again, log, rows)
    expected = whole_scores(scored, log, rows)
    np.testing.assert_allclose(found, expected, atol=1e-5)

    whole = scoring.score(task, rows, tmp_path / "whole", POOL, [again])
    assert whole == counted  # nothing was left to score, and the tokens of what was kept are counted
    assert "samples are there already" in capfd.readouterr().out


def test_missing_doubled_and_foreign_scores_are_detected(
    log: PreparedLog, scored: Path, tmp_path: Path
) -> None:
    rows = prepared.rows_of_split(log, "test")
    folder = tmp_path / "scores"
    shutil.copytree(scored, folder)
    first, *_ = files = sorted(folder.glob("*.parquet"))
    assert len(files) > 1

    shutil.copy(first, folder / "again.parquet")
    with pytest.raises(StorageError, match=r"scores does not hold each of \d+ samples once .*score again"):
        whole_scores(folder, log, rows)
    (folder / "again.parquet").unlink()
    whole_scores(folder, log, rows)
    score_files.check_scores(folder, rows)

    first.rename(tmp_path / "aside.parquet")
    with pytest.raises(StorageError, match="does not hold each"):
        whole_scores(folder, log, rows)
    with pytest.raises(StorageError, match="does not hold each"):
        score_files.check_scores(folder, rows)
    shutil.copy(files[1], folder / "again.parquet")  # as many rows perhaps, but of other samples
    with pytest.raises(StorageError, match="does not hold each"):
        whole_scores(folder, log, rows)
    (tmp_path / "aside.parquet").rename(first)
    (folder / "again.parquet").unlink()

    with pytest.raises(StorageError, match="does not hold each"):
        whole_scores(folder, log, prepared.rows_of_split(log, "validation"))
    first.write_bytes(first.read_bytes()[:-20])
    with pytest.raises(StorageError, match=r"scores cannot be read.*score again"):
        whole_scores(folder, log, rows)
    shutil.rmtree(folder)
    with pytest.raises(StorageError, match=r"scores cannot be read.*score again"):
        whole_scores(folder, log, rows)


def test_no_samples_give_empty_scores(settings: RunSettings, log: PreparedLog, tmp_path: Path) -> None:
    rows: SampleRows = [np.zeros(0, np.int64) for _ in log.parts]
    assert scoring.score(task_of(settings, log, None), rows, tmp_path / "scores", POOL).samples == 0
    assert whole_scores(tmp_path / "scores", log, rows).shape == (
        0,
        len(log.vocabulary),
    )


def test_a_stage_that_was_cut_short_after_scoring_scores_nothing_again_unless_the_code_has_changed(
    settings: RunSettings,
    prepared_stage: StageOutput,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few = settings.difficulty.model_copy(update={"max_per_behavior": 3})
    changed = settings.model_copy(update={"difficulty": few})

    def cut_short(folder: StageFolder) -> StageResult:
        score_difficulty(folder, {"prepared": prepared_stage}, changed)
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
    output = run(lambda folder: score_difficulty(folder, {"prepared": prepared_stage}, changed))
    samples = output.manifest.rows["samples"]
    assert f"scoring: {samples} samples are there already" in capfd.readouterr().out
    assert len(pq.read_table(output.folder / "difficulty.parquet")) == samples > 0


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

    groups = prepared.group_names(log, rows)
    half = np.array([hashlib.blake2b(group.encode(), digest_size=1).digest()[0] & 1 for group in groups])
    assert 0 < half.sum() < len(half)
    nll = [
        plain_nll(plain_scores(load_trained(settings.model, folder).eval(), log, rows), targets)
        for folder in tuned
    ]
    assert abs(nll[0] - nll[1]).max() > 0.01
    expected, reference = np.where(half == 1, nll[0], nll[1]), np.where(half == 1, nll[2], nll[3])
    np.testing.assert_allclose(table["nll"].to_numpy(), expected, atol=1e-4)
    assert table["judge"].to_pylist() == (1 - half).tolist()
    assert ("reducible" in table.column_names) == with_reference
    if with_reference:
        np.testing.assert_allclose(table["reducible"].to_numpy(), expected - reference, atol=1e-4)


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
