"""Logs and jobs of predictions that tests share, with Ray's part of them done in this process."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from behaviorlm_ray import storage
from behaviorlm_ray.prediction.folder import Summary
from behaviorlm_ray.prediction.plan import PredictionPlan
from behaviorlm_ray.prediction.running import (
    Task,
    opened_artifact,
    plan_prediction,
    planned_manifest,
    predict_log,
)
from behaviorlm_ray.prediction.settings import PredictSettings
from behaviorlm_ray.storage import Location
from tests.behaviorlm.predictor.small_artifacts import history

SIZES = (1, 2, 5, 9, 14, 23)
"""Events of each user: below, at and above the window."""
COLUMNS = ["user", "time", "behavior", "room", "result"]


def user_rows(users: Sequence[int] = SIZES) -> list[dict[str, Any]]:
    """Rows of a log: so many events for each user, not in order."""
    rows = [
        {"user": f"user {place}"} | event
        for place, number in enumerate(users)
        for event in history(number, seed=place)
    ]
    return rows[::-1]


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """A CSV file of them."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


@dataclass
class HereAndNow:
    """Does tasks one after the other. State: how many it may still do; None: all."""

    left: int | None = None

    def do(self, name: str, task: Task, numbers: Sequence[int], plan: PredictionPlan, unit: str) -> None:
        """As `running.Workers`; KeyboardInterrupt once it may do no more."""
        for number in numbers:
            if self.left is not None:
                if not self.left:
                    raise KeyboardInterrupt
                self.left -= 1
            task(number, plan)


def settings(model: Path, log: Location, to: Location, **keys: Any) -> PredictSettings:
    return PredictSettings(model=str(model), log=[str(log)], to=str(to), **keys)


def predicted(asked: PredictSettings, workers: Any = None) -> Summary:
    """Run a job to its end."""
    plan = plan_prediction(asked, opened_artifact(asked))
    return predict_log(plan, planned_manifest(plan), workers or HereAndNow())


def rows_of(to: Location) -> pa.Table:
    """All rows, by user and position."""
    files = sorted(storage.local_copy(to / "predictions").rglob("*.parquet"))
    tables = [pq.ParquetFile(file).read() for file in files]
    return pa.concat_tables(tables).sort_by([("user", "ascending"), ("position", "ascending")])
