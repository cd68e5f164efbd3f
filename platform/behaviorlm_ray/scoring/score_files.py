"""Files of scores, read: every sample must be there exactly once, and label scores come in batches.

A file holds windows (`part`, `rows` of the prepared log) with `label_scores`, or with measures of difficulty.
"""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet as pq
from numpy.typing import NDArray

from behaviorlm.errors import StorageError
from behaviorlm.files.data_only import data_only
from behaviorlm.metrics.score_batches import ScoreBatch, rows_per_batch
from behaviorlm_ray import storage
from behaviorlm_ray.preparation.prepared_log import SampleRows, count, places_in
from behaviorlm_ray.storage import Location

Int64 = NDArray[np.int64]
LABEL_SCORES = "label_scores"


@dataclass(frozen=True)
class ScoreFiles:
    """A folder of scores that holds each of the samples `rows` once.

    files: with how many samples each holds. places: where each sample stands in the order of `rows`, in the order of
    the files, int64[n]. longest: most samples of a window.
    """

    folder: Location
    rows: SampleRows
    files: tuple[tuple[Path, int], ...]
    places: Int64
    longest: int

    def batches(self, chosen: SampleRows, behaviors: int) -> Iterator[ScoreBatch]:
        """Label scores of those of `rows` that are chosen, one file after another; their places are in `chosen`.

        Files without any are not read. Raises StorageError where scores are missing or of another vocabulary.
        """
        wanted = np.full(len(self.places), -1, np.int64)
        wanted[places_in(self.rows, chosen)] = np.arange(count(chosen))
        places = wanted[self.places]
        start = 0
        for path, samples in self.files:
            of_file = places[start : start + samples]
            start += samples
            if (of_file >= 0).any():
                yield from self._batches_of(path, of_file, behaviors)

    def _batches_of(self, path: Path, places: Int64, behaviors: int) -> Iterator[ScoreBatch]:
        step = rows_per_batch(behaviors)
        done = 0
        for values in _label_scores(self.folder, path, max(1, step // self.longest)):
            if len(values) % behaviors:
                raise StorageError(f"{self.folder} holds scores of another vocabulary: score again")
            scores = values.reshape(-1, behaviors)
            for begin in range(0, len(scores), step):
                of_batch = scores[begin : begin + step]
                their = places[done + begin : done + begin + len(of_batch)]
                is_wanted = their >= 0
                if is_wanted.all():
                    yield ScoreBatch(their, of_batch)
                elif is_wanted.any():
                    yield ScoreBatch(their[is_wanted], of_batch[is_wanted])
            done += len(scores)
        if done != len(places):
            raise StorageError(f"{self.folder} holds scores of another vocabulary: score again")


def open_scores(folder: Location, rows: SampleRows) -> ScoreFiles:
    """Look at which samples the files of a folder hold. Raises StorageError where one is missing or there twice."""
    if not count(rows):
        return ScoreFiles(folder, rows, (), np.zeros(0, np.int64), 1)
    tables = [(path, _read(folder, path, ["part", "rows"])) for path in _files(folder)]
    places = _places(folder, pa.concat_tables([table for _, table in tables]), rows)
    lengths = [pc.list_value_length(table["rows"]).to_numpy() for _, table in tables]
    files = tuple((path, int(of.sum())) for (path, _), of in zip(tables, lengths, strict=True))
    return ScoreFiles(folder, rows, files, places, int(np.concatenate(lengths).max()))


def check_scores(folder: Location, rows: SampleRows) -> None:
    """Raise StorageError where a sample is missing or scored twice."""
    open_scores(folder, rows)


def read_measures(folder: Location, rows: SampleRows) -> dict[str, NDArray[np.float64]]:
    """Measures of difficulty of the samples by name, float64[n] in the order of rows; none without samples.

    Raises StorageError where a sample is missing or scored twice.
    """
    if not count(rows):
        return {}
    table = pa.concat_tables([_read(folder, path) for path in _files(folder)])
    place = _places(folder, table, rows)
    measures = {}
    for name in table.column_names:
        if name not in ("part", "rows"):
            measures[name] = np.empty(len(place))
            measures[name][place] = table[name].combine_chunks().flatten().to_numpy()
    return measures


class ScoresByPlace:
    """Label scores of n samples, float32[n, K], spooled to a file that vanishes with the process, and read by place.

    batches: those of all samples, in any order. Raises StorageError where temporary files have no room.
    """

    def __init__(self, batches: Iterable[ScoreBatch], samples: int, behaviors: int) -> None:
        with storage.storage_errors(tempfile.gettempdir(), "write"):
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as this object
            for batch in batches:
                for place, scores in zip(batch.places.tolist(), batch.label_scores, strict=True):
                    self._file.seek(4 * behaviors * place)
                    self._file.write(np.ascontiguousarray(scores, np.float32).data)
            self._file.flush()
        self._scores = np.memmap(self._file, np.float32, "r", shape=(samples, behaviors))

    def __call__(self, places: Int64) -> NDArray[np.float32]:
        """The scores at these places; float32[b, K]."""
        return np.asarray(self._scores[places])


def _label_scores(folder: Location, path: Path, rows: int) -> Iterator[NDArray[np.float32]]:
    """The scores of so many rows of a file at a time, flat."""
    try:
        with data_only(pq.ParquetFile(path, memory_map=True), path) as file:
            for batch in file.iter_batches(rows, columns=[LABEL_SCORES]):
                _check_whole(folder, pa.table(batch))
                yield batch.column(0).flatten().to_numpy()
    except (OSError, pa.ArrowInvalid) as error:
        raise StorageError(f"{folder} cannot be read ({error}): score again") from error


def _files(folder: Location) -> list[Path]:
    try:
        return [Path(path) for path in pyarrow.dataset.dataset(storage.local_copy(folder)).files]
    except (OSError, pa.ArrowInvalid) as error:
        raise StorageError(f"{folder} cannot be read ({error}): score again") from error


def _read(folder: Location, path: Path, columns: list[str] | None = None) -> pa.Table:
    try:
        table = data_only(pq.ParquetFile(path), path).read(columns)
    except (OSError, pa.ArrowInvalid) as error:
        raise StorageError(f"{folder} cannot be read ({error}): score again") from error
    _check_whole(folder, table)
    return table


def _check_whole(folder: Location, table: pa.Table) -> None:
    for name in table.column_names:
        if table[name].null_count:
            raise StorageError(f"{folder}: {name} is missing of some samples: score again")


def _places(folder: Location, table: pa.Table, rows: SampleRows) -> Int64:
    """Where each scored sample stands in the order of rows; int64 [n]. Raises StorageError."""
    bounds = np.r_[0, np.cumsum([len(chosen) for chosen in rows])]
    total = int(bounds[-1])
    lengths = pc.list_value_length(table["rows"]).to_numpy()
    part = np.repeat(table["part"].to_numpy(), lengths)
    row = table["rows"].combine_chunks().flatten().to_numpy()
    place = np.full(len(row), -1, dtype=np.int64)
    for number, chosen in enumerate(rows):
        members = np.flatnonzero(part == number)
        position = np.searchsorted(chosen, row[members])
        found = position < len(chosen)
        found[found] = chosen[position[found]] == row[members][found]
        place[members[found]] = bounds[number] + position[found]
    if len(place) != total or (np.bincount(place[place >= 0], minlength=total) != 1).any():
        raise StorageError(
            f"{folder} does not hold each of {total} samples once ({len(place)} found): score again"
        )
    return place
