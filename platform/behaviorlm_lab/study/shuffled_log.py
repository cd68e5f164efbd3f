"""The negative control: a log in which each user's events stand in an order drawn at random."""

import gzip
import json
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

WEEK = timedelta(weeks=1)
MONDAY = datetime.fromisoformat("2025-01-06T00:00:00+00:00")


def write_shuffled(folder: Path, seed: int) -> None:
    """Rewrite the parts of a world's log (JSON lines, gzip, each user in one of them) below `folder`."""
    random = np.random.default_rng([seed, 0x5F])
    for path in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            events = [json.loads(line) for line in file]
        users = groupby(events, key=lambda event: event["user"])
        lines = [json.dumps(event) + "\n" for _, lived in users for event in shuffled(list(lived), random)]
        with gzip.open(path, "wt", encoding="utf-8") as file:
            file.writelines(lines)


def shuffled(events: list[dict[str, Any]], random: np.random.Generator) -> list[dict[str, Any]]:
    """The events of one user in another order, a week apart: each keeps its weekday, its time of day and its place."""
    found = []
    for week, number in enumerate(random.permutation(len(events))):
        since_monday = (datetime.fromisoformat(events[number]["time"]) - MONDAY) % WEEK
        time = MONDAY + week * WEEK + since_monday
        found.append(events[number] | {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ")})
    return found
