"""A whole log of a world in one file."""

from pathlib import Path

from behaviorlm_lab.world.generator import Generator
from behaviorlm_lab.world.log import check_counts, log_rows, write_json_lines
from behaviorlm_lab.world.process import default_world


def write_log(
    path: Path,
    users: int = 300,
    seed: int = 0,
    events_per_user: tuple[int, int] = (20, 40),
    world: Generator | None = None,
) -> int:
    """Write it as one part of a log in parts. Returns the number of events."""
    check_counts(users, seed, events_per_user)
    return write_json_lines(path, log_rows(world or default_world(), range(users), seed, events_per_user))
