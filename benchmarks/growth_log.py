"""An invented log of any size, written to Parquet a million events at a time: what growth is measured on."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS_A_FILE = 5_000_000
EVENTS_OF_A_USER = 100
BATCH = 1_000_000
SCHEMA = pa.schema([("user", pa.string()), ("behavior", pa.string()), ("time", pa.timestamp("us", tz="UTC"))])


def write_log(folder: Path, events: int, behaviors: int, huge: float) -> int:
    """Users with 100 events each on average; behaviors by Zipf's law, half of them what followed the one before in the
    file. huge: the share of the events that one user has. Returns the bytes written.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    names = pa.array([f"behavior number {index}" for index in range(behaviors)])
    chance = 1 / np.arange(1, behaviors + 1)
    bytes_written = 0
    for number, begin in enumerate(range(0, events, ROWS_A_FILE)):
        path = folder / f"{number:04d}.parquet"
        with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
            for start in range(begin, min(begin + ROWS_A_FILE, events), BATCH):
                writer.write_table(_rows(start, min(BATCH, events - start), events, huge, names, chance))
        bytes_written += path.stat().st_size
    return bytes_written


def _rows(start: int, rows: int, events: int, huge: float, names: pa.Array, chance: np.ndarray) -> pa.Table:
    random = np.random.default_rng([7, start])
    users = max(1, events // EVENTS_OF_A_USER)
    user = random.integers(1, users + 1, rows)
    user[random.random(rows) < huge] = 0
    drawn = random.choice(len(names), rows, p=chance / chance.sum())
    follows = random.random(rows) < 0.5
    # what came before in the file is, where one user has much, what came before in the timeline
    drawn = np.where(follows, (np.roll(drawn, 1) * 3 + 1) % len(names), drawn)
    seconds = 1_700_000_000 + (np.arange(start, start + rows) * (10_000_000 / events))
    return pa.table(
        [
            pa.array(user).cast(pa.string()),
            names.take(pa.array(drawn)),
            pa.array((seconds * 1e6).astype(np.int64)).cast(pa.timestamp("us", tz="UTC")),
        ],
        schema=SCHEMA,
    )
