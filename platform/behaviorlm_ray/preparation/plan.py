"""What the passes of a preparation need to know, whichever process they run in."""

from dataclasses import dataclass

from behaviorlm.events.log import SourceLog
from behaviorlm.files.patient_reads import PATIENCE_SECONDS
from behaviorlm.model.config import ModelConfig
from behaviorlm.prompts.encoder import PromptConfig
from behaviorlm.timelines.splits import SplitConfig
from behaviorlm_ray.stages.attempts import SCRATCH
from behaviorlm_ray.storage import Location

QUARANTINE = "quarantine"
"""Folder of the tables of rows that cannot be used."""
ORDER = "order.json"
"""What was settled for all times of the log: {"epoch_unit", "time_format"}, as keys of events.order."""


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
