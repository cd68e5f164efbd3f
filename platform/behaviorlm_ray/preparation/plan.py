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
    """What both passes need; sent to every task, which writes into the folder from wherever it runs."""

    log: SourceLog
    split: SplitConfig
    prompt: PromptConfig
    model: ModelConfig
    partitions: int
    folder: Location
    input_patience_seconds: float = PATIENCE_SECONDS

    @property
    def scratch(self) -> Location:
        """Where the first pass leaves events, in a folder for each part; removed after the second."""
        return self.folder / SCRATCH


def partition_count(size: int, partition_megabytes: int, min_partitions: int) -> tuple[int, str | None]:
    """Parts for a log of `size` bytes, and a warning if they are larger than asked for.

    One for each `partition_megabytes`, between `min_partitions` and 256: each file writes into all parts at once.
    """
    wanted = max(min_partitions, -(-size // (partition_megabytes * 2**20)))
    if wanted <= MAX_PARTITIONS:
        return wanted, None
    return MAX_PARTITIONS, (
        f"the log is cut into {MAX_PARTITIONS} parts, the most there can be, not into {wanted}: each holds about "
        f"{size / MAX_PARTITIONS / 2**20:.0f} MiB of it instead of preparation.partition_megabytes "
        f"({partition_megabytes}) and takes memory in proportion"
    )
