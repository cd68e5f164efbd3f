"""A schedule in a file: made once, opened by every worker in no time, and of each step only that step is read."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from behaviorlm.errors import DataError, StorageError
from behaviorlm.files.data_only import data_only
from behaviorlm.training.chunks import Chunk
from behaviorlm.training.schedule import SampleSchedule

STEPS_A_BATCH = 256
"""Steps that are written and mapped together (our choice)."""
_CHUNK = pa.struct(
    [
        ("part", pa.int32()),
        ("timeline_part", pa.int32()),
        ("timeline_row", pa.int64()),
        ("rows", pa.list_(pa.int64())),
    ]
)
_SCHEMA = pa.schema([("epoch", pa.int32()), ("samples", pa.int32()), ("chunks", pa.list_(_CHUNK))])
_FINGERPRINT, _CAP_EXCEEDED = b"behaviorlm.fingerprint", b"behaviorlm.cap_exceeded"


def store_schedule(schedule: SampleSchedule, fingerprint: str, path: Path) -> None:
    """Write a schedule and its fingerprint as an Arrow file with a row a step."""
    told = {_FINGERPRINT: fingerprint.encode(), _CAP_EXCEEDED: str(schedule.cap_exceeded).encode()}
    schema = _SCHEMA.with_metadata(told)
    chunks = schedule.of
    with pa.ipc.new_file(str(path), schema) as writer:
        for begin in range(0, len(schedule), STEPS_A_BATCH):
            steps = slice(begin, min(begin + STEPS_A_BATCH, len(schedule)))
            pieces = schedule.pieces(steps)
            rows = pa.ListArray.from_arrays(_offsets(np.append(0, pieces.ends)), pa.array(pieces.rows))
            columns = [
                pa.array(of[pieces.chunk]) for of in (chunks.part, chunks.timeline_part, chunks.timeline_row)
            ]
            listed = pa.StructArray.from_arrays([*columns, rows], fields=list(_CHUNK))
            samples = np.diff(np.append(0, pieces.ends)[pieces.bounds])
            epochs = pa.array(schedule.epochs[steps], pa.int32())
            columns = [
                epochs,
                pa.array(samples.astype(np.int32)),
                pa.ListArray.from_arrays(_offsets(pieces.bounds), listed),
            ]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))


def _offsets(ends: NDArray[np.int64]) -> pa.Array:
    return pa.array(ends.astype(np.int32))


class StoredSchedule:
    """A file of `store_schedule`, mapped: asked as a `SampleSchedule` is. Raises StorageError where it is none."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = data_only(pa.ipc.open_file(pa.memory_map(str(path))), path)
            told = self._file.schema.metadata or {}
            self.fingerprint = told[_FINGERPRINT].decode()
            self.cap_exceeded = int(told[_CAP_EXCEEDED])
            last = self._file.get_batch(self._file.num_record_batches - 1)
        except (OSError, pa.ArrowInvalid, KeyError, ValueError, DataError) as error:
            raise StorageError(f"{path} is not the file of a schedule: {error}") from None
        self._steps = (self._file.num_record_batches - 1) * STEPS_A_BATCH + last.num_rows

    def __len__(self) -> int:
        return self._steps

    def chunks(self, step: int) -> list[Chunk]:
        """What the step is made of."""
        return [
            Chunk(
                chunk["part"].as_py(),
                (chunk["timeline_part"].as_py(), chunk["timeline_row"].as_py()),
                chunk["rows"].values.to_numpy(),
            )
            for chunk in self._value("chunks", step)
        ]

    def samples(self, step: int) -> int:
        """Number of samples of a step."""
        return int(self._value("samples", step).as_py())

    def all_samples(self) -> NDArray[np.int64]:
        """That of every step, int64[steps]."""
        batches = (self._file.get_batch(number) for number in range(self._file.num_record_batches))
        return np.concatenate([batch["samples"].to_numpy() for batch in batches]).astype(np.int64)

    def epoch(self, step: int) -> int:
        """The epoch a step belongs to, from 0."""
        return int(self._value("epoch", step).as_py())

    def _value(self, name: str, step: int) -> pa.Scalar:
        return self._file.get_batch(step // STEPS_A_BATCH)[name][step % STEPS_A_BATCH]
