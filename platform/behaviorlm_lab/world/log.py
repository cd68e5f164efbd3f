"""Behavior logs of the synthetic world, as files."""

import contextlib
import gzip
import json
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from behaviorlm.errors import ConfigError, StorageError
from behaviorlm_lab.world.generator import Generator, simulate_user

USERS_PER_PART = 1000


def part_count(users: int) -> int:
    """How many files a log in parts has; a fixed number of users each, whatever the parallelism."""
    return -(-users // USERS_PER_PART)


def part_name(part: int) -> str:
    """File name of a part."""
    return f"part-{part:05d}.jsonl.gz"


def write_part(
    folder: str | Path, part: int, users: int, seed: int, events_per_user: tuple[int, int], world: Generator
) -> int:
    """Write a part of a log of `users` users, one after the other, as gzipped JSON lines, `part-00000.jsonl.gz`.

    One object per event, in order of time: `user` ("user-00042"), `time` (ISO 8601, UTC, to the second), `behavior`,
    and `place` ("home", "office", "campus" or "out"; known only with the event). `events_per_user`: the fewest and the
    most events of a user. The bytes depend on the arguments alone, so parts can be written in any order and in
    parallel. Returns the number of events. Raises StorageError.
    """
    indices = range(part * USERS_PER_PART, min((part + 1) * USERS_PER_PART, users))
    return write_json_lines(Path(folder) / part_name(part), log_rows(world, indices, seed, events_per_user))


def check_counts(users: int, seed: int, events_per_user: tuple[int, int]) -> None:
    """Raises ConfigError for counts or a seed that make no log."""
    if users < 1 or not 1 <= events_per_user[0] <= events_per_user[1]:
        raise ConfigError(
            f"users={users}, events_per_user={events_per_user}: needs at least one user and one event each"
        )
    if seed < 0:
        raise ConfigError(f"seed={seed}: a seed is 0 or more")


def log_rows(
    world: Generator, user_indices: Iterable[int], seed: int, events_per_user: tuple[int, int] = (20, 40)
) -> Iterator[dict[str, str]]:
    """The rows of the users with these indices; any share of a log can be made on its own."""
    for index in user_indices:
        for event in simulate_user(world, seed, index, events_per_user):
            yield {
                "user": f"user-{index:05d}",
                "time": event.time.isoformat(timespec="seconds") + "Z",
                "behavior": event.behavior,
                "place": event.place,
            }


def write_json_lines(path: str | Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write gzipped JSON lines; the bytes depend on the rows alone. Returns the number of rows.

    The file appears under its name only when complete. Raises StorageError.
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")  # others may be writing the same one
    count = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # No name and no time in the gzip header: they would make the bytes differ from run to run.
        with unfinished.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as compressed:
            for row in rows:
                compressed.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
                count += 1
        unfinished.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise StorageError(f"cannot write {path}: {error}") from error
    return count
