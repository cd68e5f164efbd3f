"""Small logs as people have them, and how the product reads them: each user's behaviors in order, or a refusal."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from behaviorlm.events.facts import LogFacts, facts_of_rows, facts_of_users
from behaviorlm.events.log import SourceLog, find_log, read_events
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.timelines.config import SplitConfig
from behaviorlm.timelines.samples import build_timelines

COLUMNS = {"user": "user", "behavior": "action", "order": {"column": "time"}}


def mapping(folder: Path, **changes: Any) -> EventsConfig:
    """A mapping of the files below `folder` with columns user, action, time."""
    return EventsConfig.model_validate({"dataset": "field", "paths": [str(folder)], **COLUMNS, **changes})


def written(folder: Path, files: dict[str, bytes | str]) -> Path:
    """The folder, with these files below it."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def read_log(config: EventsConfig) -> tuple[SourceLog, pa.Table, pa.Table]:
    """(the log as found, its timelines, its quarantine). Raises what a run would before or while it prepares."""
    log = find_log(config)
    events, quarantined = zip(*read_events(log), strict=True)
    timelines, _ = build_timelines(pa.concat_tables(events), log.events, SplitConfig(), 1, config.dataset)
    return log, timelines, pa.concat_tables(quarantined)


def sequences(timelines: pa.Table) -> dict[str, list[str]]:
    """Each user's behaviors in order."""
    found: dict[str, list[str]] = {}
    for row in timelines.select(["user", "behavior"]).to_pylist():
        found.setdefault(row["user"], []).append(row["behavior"])
    return found


def read_facts(config: EventsConfig, split: SplitConfig | None = None) -> LogFacts:
    """What is told of the whole log. Raises as `read_log`."""
    log = find_log(config)
    events, quarantined = (pa.concat_tables(tables) for tables in zip(*read_events(log), strict=True))
    timelines, counts = build_timelines(events, log.events, split or SplitConfig(), 1, config.dataset)
    return facts_of_rows(events, quarantined, len(log.files)) + facts_of_users(events, timelines, counts)
