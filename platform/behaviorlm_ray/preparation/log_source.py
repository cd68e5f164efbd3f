"""A log as a source of Ray Data: `read_events` for whoever composes it, and the reading of preparation.

A log is read in pieces: files, and spans of large ones. Each read task streams the events of its pieces; whatever else
is to be done with a piece as a whole is done where it is read.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray.data.block import BlockMetadata
from ray.data.context import DataContext
from ray.data.datasource import Datasource, ReadTask

from behaviorlm.errors import DataError
from behaviorlm.events.log import Piece, SourceLog, find_log, read_piece
from behaviorlm.files.unpacking import packing_of
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.log_files.spans import SPAN_BYTES, look_through, row_groups, spans_of, windows_of
from behaviorlm_ray import storage
from behaviorlm_ray.cluster.kept import make_room
from behaviorlm_ray.cluster.surroundings import ray_address
from behaviorlm_ray.console.screen import screen
from behaviorlm_ray.storage import Location

Batches = Iterator[tuple[pa.Table, pa.Table]]
"""(events, quarantined rows), see `events.normalization.normalize`."""
Take = Callable[[Piece, Batches], Iterable[pa.Table]]
"""Makes blocks of the batches of a piece. A task that is tried again calls it again: it must replace what it wrote."""

BYTES_IN_MEMORY = {"csv": 2.0, "jsonl": 1.0, "parquet": 8.0}
PACKED = 5.0
"""Bytes of events for each byte of a file, and how much less packed ones have (rough, for planning only)."""
SMALL_BYTES = 16 * 2**20
SMALL_FILES = 32
"""A log of at most so many bytes of events in so many files is read and arranged by one process in seconds (our
choice).
"""


def read_events(
    events: EventsConfig,
    quarantine: str | Path | None = None,
    override_num_blocks: int | None = None,
    span_bytes: int = SPAN_BYTES,
) -> ray.data.Dataset:
    """The usable rows of a log, of the columns of `events.normalization.events_schema`, in no order of blocks.

    quarantine: a folder, local or on S3, for tables of the rows that cannot be used, one for each file or span that has
    such; None: the first such row ends the reading. How many may be unusable is for the caller to judge (see
    `events.normalization.check_quarantine`). override_num_blocks: as of Ray Data's own readers. The log is found at
    once, and large files are looked through to cut them; rows are read when the dataset is. Raises ConfigError and
    DataError; what a task raises comes from Ray as an error that is a DataError too.
    """
    log = find_log(events)
    for note in log.notes:
        screen().says(f"read: {note}")
    place = None if quarantine is None else storage.location(str(quarantine))
    pieces = pieces_of(log, span_bytes)
    return log_dataset(pieces, log.events, _Events(place, _is_zoned(log)), override_num_blocks)


def pieces_of(log: SourceLog, span_bytes: int = SPAN_BYTES) -> list[Piece]:
    """The pieces of a log in their order: whole files, but for large ones that can surely be cut.

    To number the rows of a span, CSV and JSON files are looked through by Ray tasks first. Raises DataError.
    """
    windows = [windows_of(file, log.events, span_bytes) for file in log.files]
    found = {}
    if any(windows):
        make_room()
        look = ray.remote(look_through)
        asked = [[look.remote(window) for window in of_file] for of_file in windows]
        try:
            found = {index: ray.get(of_file) for index, of_file in enumerate(asked) if of_file}
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
    pieces = []
    for index, file in enumerate(log.files):
        spans = spans_of(windows[index], found.get(index, [])) or row_groups(file, log.events, span_bytes)
        pieces += [Piece(index, file, span) for span in spans] or [Piece(index, file)]
    return pieces


def is_read_here(log: SourceLog) -> bool:
    """Whether a log is small, and read sooner by this process than by others of this machine that have to start.

    Never on a cluster, whose head has other work.
    """
    if ray_address() != "local":
        return False
    size = sum(_size_in_memory(Piece(index, file)) for index, file in enumerate(log.files))
    return len(log.files) <= SMALL_FILES and size <= SMALL_BYTES


def log_dataset(
    pieces: Sequence[Piece], events: EventsConfig, take: Take, override_num_blocks: int | None = None
) -> ray.data.Dataset:
    """What `take` makes of the pieces of a log whose mapping is settled, each within one read task."""
    source = LogDatasource(pieces, events, take)
    return ray.data.read_datasource(source, override_num_blocks=override_num_blocks)


class LogDatasource(Datasource):
    """Pieces of a log, each read and taken as a whole within one task."""

    def __init__(self, pieces: Sequence[Piece], events: EventsConfig, take: Take) -> None:
        super().__init__()
        self._pieces, self._events, self._take = list(pieces), events, take

    def get_name(self) -> str:
        """What Ray shows."""
        return "Log"

    def estimate_inmemory_data_size(self) -> int:
        """Bytes of the events of all pieces, roughly."""
        return sum(map(_size_in_memory, self._pieces))

    def get_read_tasks(
        self,
        parallelism: int,
        per_task_row_limit: int | None = None,
        data_context: DataContext | None = None,
    ) -> list[ReadTask]:
        """At most so many tasks of pieces that follow each other; a piece is never torn."""
        groups = np.array_split(np.arange(len(self._pieces)), min(parallelism, len(self._pieces)))
        tasks = []
        for group in groups:
            pieces = [self._pieces[index] for index in group]
            metadata = BlockMetadata(
                num_rows=None,
                size_bytes=sum(map(_size_in_memory, pieces)),
                input_files=tuple(dict.fromkeys(piece.file.path for piece in pieces)),
                exec_stats=None,
            )
            reading = _Reading(pieces, self._events, self._take)
            tasks.append(ReadTask(reading, metadata, per_task_row_limit=per_task_row_limit))
        return tasks


def write_quarantine(folder: Location, piece: Piece, tables: Sequence[pa.Table]) -> None:
    """Write the rows of a piece that cannot be used, if any, as a table of its own, whole or not at all."""
    if tables:
        with storage.writing_file(folder / f"file-{piece.name}.parquet") as path:
            pq.write_table(pa.concat_tables(tables), path)


@dataclass(frozen=True)
class _Reading:
    """Reads pieces one after another."""

    pieces: Sequence[Piece]
    events: EventsConfig
    take: Take

    __name__ = "read_log"

    def __call__(self) -> Iterator[pa.Table]:
        for piece in self.pieces:
            yield from self.take(piece, read_piece(piece, self.events))


@dataclass(frozen=True)
class _Events:
    """Takes events as they are. is_zoned: whether the times of the log have zones of their own; None where any may."""

    quarantine: Location | None
    is_zoned: bool | None

    def __call__(self, piece: Piece, batches: Batches) -> Iterator[pa.Table]:
        set_aside = []
        for events, unusable in batches:
            if len(unusable) and self.quarantine is None:
                row = unusable.slice(0, 1).to_pylist()[0]
                raise DataError(
                    f"{row['file']}, row {row['row']}: {row['reason']} ({row['value']!r}); give read_events a "
                    "folder for the rows that cannot be used (quarantine)"
                )
            self._check_zones(piece, events)
            if len(unusable):
                set_aside.append(unusable)
            yield events
        if self.quarantine is not None:
            write_quarantine(self.quarantine, piece, set_aside)

    def _check_zones(self, piece: Piece, events: pa.Table) -> None:
        if self.is_zoned is None:
            return
        others = np.flatnonzero(events["is_zoned"].to_numpy() != self.is_zoned)
        if len(others):
            kinds = ("have none", "have a zone") if self.is_zoned else ("have a zone", "have none")
            raise DataError(
                f"{piece.file.path}, row {events['row'][int(others[0])]}: some times {kinds[0]}, as this one, and "
                f"others {kinds[1]}, as the first of the log, so they cannot be put in order; set "
                "events.order.time_zone to the zone of those without"
            )


def _is_zoned(log: SourceLog) -> bool | None:
    """Whether the first event of the log has a zone where all must be alike; None where that does not matter."""
    if not log.events.order.has_time or log.events.order.time_zone is not None:
        return None
    for index, file in enumerate(log.files):
        for events, _ in read_piece(Piece(index, file), log.events):
            if len(events):
                return bool(events["is_zoned"][0].as_py())
    return None


def _size_in_memory(piece: Piece) -> int:
    stored = piece.file.size
    if piece.span is not None and piece.file.format != "parquet":
        stored = piece.span.stop - piece.span.start
    return int(stored * BYTES_IN_MEMORY[piece.file.format] * (PACKED if packing_of(piece.file.path) else 1))
