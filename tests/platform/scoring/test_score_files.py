"""Files of scores by hand: which batches come of them, which files are read, and what is refused."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behaviorlm.errors import StorageError
from behaviorlm.metrics import score_batches
from behaviorlm.metrics.score_batches import ScoreBatch
from behaviorlm_ray.preparation.prepared_log import SampleRows
from behaviorlm_ray.scoring.score_files import (
    ScoresByPlace,
    check_scores,
    open_scores,
    read_measures,
)

BEHAVIORS = 3
WINDOWS = {"b": [(0, [1, 4]), (1, [0])], "a": [(0, [6])], "c": [(1, [2, 3, 5, 8]), (0, [9])]}
"""Of each file; the files come in the order of their names."""
ROWS: SampleRows = [np.array([1, 4, 6, 9]), np.array([0, 2, 3, 5, 8])]


def value(part: int, row: int) -> list[float]:
    """The label scores of a sample."""
    return [float(-100 * part - row), float(-row), -0.5]


def write(folder: Path) -> Path:
    folder.mkdir()
    for name, windows in WINDOWS.items():
        scores = [[score for row in rows for score in value(part, row)] for part, rows in windows]
        table = pa.table(
            {
                "part": pa.array([part for part, _ in windows], pa.int64()),
                "rows": pa.array([rows for _, rows in windows], pa.list_(pa.int64())),
                "label_scores": pa.array(scores, pa.list_(pa.float32())),
            }
        )
        pq.write_table(table, folder / f"windows-{name}.parquet")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "scores")


@pytest.mark.parametrize("step", [1, 2, 3, 100])
def test_every_sample_comes_once_with_its_place_and_no_batch_is_larger(
    folder: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_batches, "BATCH_BYTES", step * BEHAVIORS * 4 + 3)
    chosen: SampleRows = [np.array([4, 9]), np.array([0, 3, 5, 8])]
    for asked in (ROWS, chosen):
        samples = [(part, int(row)) for part, rows in enumerate(asked) for row in rows]
        found: dict[int, list[float]] = {}
        for batch in open_scores(folder, ROWS).batches(asked, BEHAVIORS):
            assert 0 < len(batch.places) <= step
            assert batch.label_scores.shape == (len(batch.places), BEHAVIORS)
            assert batch.label_scores.dtype == np.float32
            assert not found.keys() & set(batch.places.tolist())
            found |= dict(zip(batch.places.tolist(), batch.label_scores.tolist(), strict=True))
        assert [found[place] for place in range(len(samples))] == [value(*sample) for sample in samples]
        assert len(found) == len(samples)


def test_files_without_a_chosen_sample_are_not_read(folder: Path) -> None:
    files = open_scores(folder, ROWS)
    for name in ("a", "c"):
        (folder / f"windows-{name}.parquet").unlink()
    [batch] = files.batches([np.array([4]), np.array([], np.int64)], BEHAVIORS)
    assert batch.places.tolist() == [0] and batch.label_scores.tolist() == [value(0, 4)]
    with pytest.raises(StorageError, match=r"scores cannot be read.*score again"):
        list(files.batches(ROWS, BEHAVIORS))


def test_nothing_is_looked_for_where_no_sample_is_asked_for(tmp_path: Path) -> None:
    none: SampleRows = [np.array([], np.int64)] * 2
    assert list(open_scores(tmp_path / "missing", none).batches(none, BEHAVIORS)) == []
    assert read_measures(tmp_path / "missing", none) == {}


def test_missing_doubled_and_foreign_samples_are_refused(folder: Path) -> None:
    check_scores(folder, ROWS)
    for rows in (
        [ROWS[0], ROWS[1][1:]],
        [ROWS[0], np.append(ROWS[1], 11)],
        [np.array([1, 4, 6, 8]), ROWS[1]],
        [*ROWS, np.array([0])],
    ):
        with pytest.raises(StorageError, match="does not hold each of"):
            open_scores(folder, rows)
    (folder / "windows-z.parquet").write_bytes((folder / "windows-a.parquet").read_bytes())
    with pytest.raises(StorageError, match=r"does not hold each of 9 samples once \(10 found\)"):
        check_scores(folder, ROWS)


def test_scores_of_another_vocabulary_and_missing_ones_are_refused(folder: Path) -> None:
    for behaviors in (2, 4, 9):
        with pytest.raises(StorageError, match="another vocabulary"):
            list(open_scores(folder, ROWS).batches(ROWS, behaviors))
    path = folder / "windows-a.parquet"
    table = pq.read_table(path)
    scores = pa.array([None], pa.list_(pa.float32()))
    pq.write_table(table.set_column(2, "label_scores", scores), path)
    with pytest.raises(StorageError, match="label_scores is missing of some samples"):
        list(open_scores(folder, ROWS).batches(ROWS, BEHAVIORS))
    pq.write_table(table.set_column(0, "part", pa.array([None], pa.int64())), path)
    with pytest.raises(StorageError, match="part is missing of some samples"):
        open_scores(folder, ROWS)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StorageError, match=r"cannot be read.*score again"):
        open_scores(folder, ROWS)


def test_measures_come_in_the_order_of_the_samples(tmp_path: Path) -> None:
    for name, windows in WINDOWS.items():
        columns = {
            measure: pa.array(
                [[sign * (100.0 * part + row) for row in rows] for part, rows in windows],
                pa.list_(pa.float64()),
            )
            for measure, sign in (("nll", 1), ("rank", -1))
        }
        parts, rows = pa.array([part for part, _ in windows]), pa.array([rows for _, rows in windows])
        pq.write_table(pa.table({"part": parts, "rows": rows, **columns}), tmp_path / f"{name}.parquet")
    found = read_measures(tmp_path, ROWS)
    assert list(found) == ["nll", "rank"]
    assert found["nll"].tolist() == [1, 4, 6, 9, 100, 102, 103, 105, 108]
    assert found["rank"].tolist() == (-found["nll"]).tolist()


def test_scores_by_place_are_those_of_batches_in_any_order() -> None:
    scores = np.random.default_rng(0).normal(size=(10, BEHAVIORS)).astype(np.float32)
    batches = [
        ScoreBatch(np.array(places), scores[places]) for places in ([9, 2, 5], [0, 1, 3, 4], [8, 7, 6])
    ]
    by_place = ScoresByPlace(batches, 10, BEHAVIORS)
    places = np.array([7, 0, 9, 7])
    assert np.array_equal(by_place(places), scores[places])
    assert np.array_equal(by_place(np.arange(10)), scores)
