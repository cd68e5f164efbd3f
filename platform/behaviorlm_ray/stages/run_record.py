"""Which stages a run has asked for so far: <root>/<run>/stages.json, for jobs.status. Runs share stages."""

import json
from dataclasses import dataclass, field

from behaviorlm_ray import storage
from behaviorlm_ray.storage import Location

FILE = "stages.json"


@dataclass
class RunRecord:
    """State: the names of the folders of stages, in the order in which the run of `folder` asked for them."""

    folder: Location
    stages: list[str] = field(default_factory=list)

    def asks_for(self, stage_folder: str) -> None:
        """The run waits for this stage from now on. Raises StorageError."""
        self.stages.append(stage_folder)
        storage.write_replacing(self.folder / FILE, json.dumps({"stages": self.stages}).encode())


def read_stages(folder: Location) -> list[str]:
    """What a run has told so far; nothing for a folder that is not one of a run."""
    try:
        told = json.loads(storage.read_bytes(folder / FILE) or b"{}")
        return [str(name) for name in told["stages"]]
    except (ValueError, KeyError, TypeError):
        return []
