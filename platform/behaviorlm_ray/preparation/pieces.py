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
from numpy.typing import NDArray

from behaviorlm.files.data_only import data_only
from behaviorlm.log_files.config import EventsConfig
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
    """Write the events of a part, in no order, into files of at most `most` in a folder.

    A user with more, whose sessions keep it from being cut, has a file alone.
    """
    counted = events["user"].value_counts()
    users, sizes = counted.field("values"), counted.field("counts").to_numpy()
    # A session may begin before another one ends, so users with sessions are not cut.
    is_large = (sizes > most) & (config.session is None)
    first = _packed(np.where(is_large, 0, sizes), most)
    pieces = int(first[~is_large].max(initial=-1)) + 1
    starts = {}
    for index in np.flatnonzero(is_large).tolist():
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
    large = {int(first[index]): len(starts[index]) + 1 for index in starts}
    of_large = {number + place for number, segments in large.items() for place in range(segments)}
    found = [
        Piece((folder / f"{number:06d}.arrows",)) for number in sorted(writers) if number not in of_large
    ]
    for number, segments in large.items():
        paths = [folder / f"{number + place:06d}.arrows" for place in range(segments)]
        found.append(Piece(tuple(path for path in paths if path.exists())))
    return found


def _packed(sizes: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """The piece of each user, in their order: each takes the next users as long as they fit."""
    ends = np.cumsum(sizes)
    found = np.empty(len(sizes), np.int64)
    begin = number = 0
    while begin < len(sizes):
        room = ends[begin] - sizes[begin] + most
        stop = max(begin + 1, int(np.searchsorted(ends, room, side="right")))
        found[begin:stop] = number
        begin, number = stop, number + 1
    return found


def _orders(events: pa.Table, user: pa.Scalar) -> Iterator[np.ndarray]:
    for batch in events.select(["user", "order"]).to_batches(max_chunksize=2**17):
        yield batch["order"].filter(pc.equal(batch["user"], user)).to_numpy()
