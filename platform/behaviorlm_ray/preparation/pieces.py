"""A part of the log that is larger than asked for: cut into users that fit together, and segments of one that does not.

A part is too large where one user has much of the log, and where there would be more parts than there can be. Its
events are read once more, batch by batch, and written by piece.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behaviorlm.files.data_only import data_only
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.log_files.identity import look_alike_keys
from behaviorlm.timelines.segments import bounds


@dataclass(frozen=True)
class Piece:
    """Whole users, or all of one user, in segments that follow each other. paths: files of events, one a segment."""

    paths: tuple[Path, ...]

    def segments(self) -> Iterator[pa.Table]:
        """Mapped one at a time; those of whole users are one."""
        for path in self.paths:
            yield data_only(pa.ipc.open_stream(pa.memory_map(str(path))), path).read_all()


def cut(events: pa.Table, most: int, config: EventsConfig, folder: Path) -> list[Piece]:
    """Write the events of a part, in no order, into files of about `most` in a folder. Users that look alike stay
    together, but for those with more.
    """
    counted = events["user"].value_counts()
    users, sizes = counted.field("values"), counted.field("counts").to_numpy()
    # A session may begin before another one ends, so users with sessions are not cut.
    is_large = (sizes > most) & (config.session is None)
    first, pieces = _numbers(users, sizes, is_large, most)
    places = {int(index): first[index] for index in np.flatnonzero(is_large)}
    starts = {}
    for index in places:
        starts[index] = bounds(_orders(events, users[index]), int(sizes[index]), most)
        first[index] = pieces  # segments are numbered behind all else
        pieces += len(starts[index]) + 1
    writers: dict[int, pa.RecordBatchStreamWriter] = {}
    for batch in events.to_batches(max_chunksize=2**17):
        index = pc.index_in(batch["user"], value_set=users).to_numpy()
        number = first[index]
        for one, begins in starts.items():
            rows = np.flatnonzero(index == one)
            if len(rows):
                number[rows] += np.searchsorted(begins, batch["order"].to_numpy()[rows], side="right")
        for piece in np.unique(number).tolist():
            if piece not in writers:
                writers[piece] = pa.ipc.new_stream(str(folder / f"{piece:06d}.arrows"), events.schema)
            writers[piece].write_batch(batch.filter(pa.array(number == piece)))
    for writer in writers.values():
        writer.close()
    large = {int(first[index]): len(starts[index]) + 1 for index in places}
    of_large = {number + place for number, segments in large.items() for place in range(segments)}
    found = [
        Piece((folder / f"{number:06d}.arrows",)) for number in sorted(writers) if number not in of_large
    ]
    for number, segments in large.items():
        paths = [folder / f"{number + place:06d}.arrows" for place in range(segments)]
        found.append(Piece(tuple(path for path in paths if path.exists())))
    return found


def _numbers(users: pa.Array, sizes: np.ndarray, is_large: np.ndarray, most: int) -> tuple[np.ndarray, int]:
    """The piece of each user who is not large, int64[users], and how many there are."""
    small = np.flatnonzero(~is_large)
    number = np.zeros(len(users), np.int64)
    if not len(small):
        return number, 0
    alike = look_alike_keys(users.take(pa.array(small))).dictionary_encode()
    group = alike.indices.to_numpy()
    of_group = np.bincount(group, sizes[small])
    number[small] = ((np.cumsum(of_group) - of_group) // most).astype(np.int64)[group]
    return number, int(number[small].max()) + 1


def _orders(events: pa.Table, user: pa.Scalar) -> Iterator[np.ndarray]:
    for batch in events.select(["user", "order"]).to_batches(max_chunksize=2**17):
        yield batch["order"].filter(pc.equal(batch["user"], user)).to_numpy()
