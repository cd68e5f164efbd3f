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
    """Write the events of a part, in no order, into files of about `most` in a folder."""
    counted = events["user"].value_counts()
    users, sizes = counted.field("values"), counted.field("counts").to_numpy()
    # A session may begin before another one ends, so users with sessions are not cut.
    is_large = (sizes > most) & (config.session is None)
    small = np.where(is_large, 0, sizes)
    first = (np.cumsum(small) - small) // most
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


def _orders(events: pa.Table, user: pa.Scalar) -> Iterator[np.ndarray]:
    for batch in events.select(["user", "order"]).to_batches(max_chunksize=2**17):
        yield batch["order"].filter(pc.equal(batch["user"], user)).to_numpy()
