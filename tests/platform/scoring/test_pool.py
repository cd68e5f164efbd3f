"""Scoring through the pool of actors against plain sequences, one at a time."""

import gc
import pickle
import shutil
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from behaviorlm.errors import ClusterError, StorageError
from behaviorlm.model.adapters import load_trained
from behaviorlm.model.base_model import load_model
from behaviorlm.prompts.encoder import PromptTokens
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.preparation import prepared_log as prepared
from behaviorlm_ray.preparation.prepared_log import PreparedLog, SampleRows
from behaviorlm_ray.scoring import pool as scoring
from behaviorlm_ray.scoring import replica as replicas
from behaviorlm_ray.scoring import score_files
from behaviorlm_ray.scoring.replica import Replica, ScoringTask
from behaviorlm_ray.scoring.windows import batch_table, windows_of
from tests.platform.score_reading import whole_scores
from tests.platform.scoring.pool_runs import POOL, plain_scores, task_of


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
    with pytest.raises(
        ClusterError, match=r"DefaultCPUAllocator.*execution\.scoring_tokens \(2048 at work\)"
    ):
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
    windows = windows_of(log, rows)
    batch = batch_table(windows, np.zeros(len(windows), np.int64))
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
    replica = Replica(task_of(settings, log, None))
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

    # A run that goes on, with whatever number of replicas, cuts its windows as the first one did.
    one = scoring.ScoringPool(actors=1, windows_per_batch=3, cpus_per_actor=1, use_gpu=False)
    scoring.score(task, rows, tmp_path / "resumed", one, [earlier / "first"])
    written = {path.name: path.read_bytes() for path in (tmp_path / "resumed").iterdir()}
    assert written == {path.name: path.read_bytes() for path in scored.iterdir()}

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
