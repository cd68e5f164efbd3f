"""What the passes of a preparation need to know, whichever process they run in."""

from dataclasses import dataclass
from typing import Protocol

from behaviorlm.events.log import SourceLog
from behaviorlm.files.patient_reads import PATIENCE_SECONDS
from behaviorlm.model.config import ModelConfig
from behaviorlm.prompts.encoder import PromptConfig
from behaviorlm.timelines.splits import SplitConfig
from behaviorlm_ray.stages.attempts import SCRATCH
from behaviorlm_ray.storage import Location

MAX_PARTITIONS = 256
LEAST_ROWS = 200_000
"""Parts of so many events are never cut (our choice)."""
QUARANTINE = "quarantine"
"""Folder of the tables of rows that cannot be used."""
ORDER = "order.json"
"""What was settled for all times of the log: {"epoch_unit", "time_format"}, as keys of events.order."""


class ReadingPlan(Protocol):
    """What the first pass needs: into how many parts by user, and where to leave them."""

    @property
    def log(self) -> SourceLog:
        """How the log is read."""

    @property
    def split(self) -> SplitConfig:
        """What the rows are held against."""

    @property
    def partitions(self) -> int:
        """Parts."""

    @property
    def folder(self) -> Location:
        """Where quarantine tables go."""

    @property
    def scratch(self) -> Location:
        """Where events are left, in a folder for each part."""

    @property
    def input_patience_seconds(self) -> float:
        """How long the log's storage is tried again."""


@dataclass(frozen=True)
class PreparationPlan:
    """What both passes need; sent to every task, which writes into the folder from wherever it runs.

    partition_megabytes: what parts are not to be much larger than; None: they may. most_rows: events of a part that
    are held at once, known after the first pass; None: all.
    """

    log: SourceLog
    split: SplitConfig
    prompt: PromptConfig
    model: ModelConfig
    partitions: int
    folder: Location
    input_patience_seconds: float = PATIENCE_SECONDS
    partition_megabytes: int | None = None
    most_rows: int | None = None

    @property
    def scratch(self) -> Location:
        """Where the first pass leaves events, in a folder for each part; removed after the second."""
        return self.folder / SCRATCH


def most_rows(rows: int, size: int, partition_megabytes: int) -> int:
    """Events of a part that are held at once: twice what one of `partition_megabytes` has on average."""
    return max(LEAST_ROWS, 2 * rows * partition_megabytes * 2**20 // max(size, 1))


def partition_count(size: int, partition_megabytes: int, min_partitions: int) -> int:
    """Parts for a log of `size` bytes: one for each `partition_megabytes`, between `min_partitions` and 256.

    Each file writes into all parts at once. Those that come out larger are cut where they are put in order.
    """
    return min(MAX_PARTITIONS, max(min_partitions, -(-size // (partition_megabytes * 2**20))))
