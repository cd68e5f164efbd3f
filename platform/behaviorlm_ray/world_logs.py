"""Logs of the synthetic worlds, of any size: their parts written in parallel through Ray Data."""

from pathlib import Path
from typing import Any

import ray.data

from behaviorlm.world.generator import Generator
from behaviorlm.world.log import check_counts, part_count, part_name, write_part
from behaviorlm_ray.storage import storage_errors


def write_log_in_parts(
    folder: str | Path, users: int, seed: int, events_per_user: tuple[int, int], world: Generator
) -> int:
    """Write `part-00000.jsonl.gz`, ... of 1000 users each; every worker must reach the absolute `folder`.

    The bytes are the same whatever the cluster: a part depends on its number alone. Parts of an earlier, larger log
    are removed. A single part is written without Ray. Returns the number of events. Raises ConfigError and
    StorageError.
    """
    check_counts(users, seed, events_per_user)
    parts = part_count(users)
    kept = {part_name(part) for part in range(parts)}
    with storage_errors(Path(folder), "clean"):
        for old in Path(folder).glob("part-*.jsonl.gz"):
            if old.name not in kept:
                old.unlink()
    if parts == 1:
        return write_part(folder, 0, users, seed, events_per_user, world)
    shared_world = ray.put(world)

    def write(row: dict[str, Any]) -> dict[str, Any]:
        known: Generator = ray.get(shared_world)
        return {"events": write_part(folder, int(row["id"]), users, seed, events_per_user, known)}

    written = ray.data.range(parts, override_num_blocks=parts).map(write).take_all()
    return sum(int(row["events"]) for row in written)
