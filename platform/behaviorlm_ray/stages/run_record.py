"""What runs and stages say of themselves while they work, for whoever looks at a root: the commands status and clean.

<root>/<run>/stages.json names the folders of the stages that a run, search or study asked for; runs share stages.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from behaviorlm_ray import storage
from behaviorlm_ray.storage import Location

RECORD_FILE = "stages.json"

PROGRESS_FILE = "progress.json"
"""Where a stage that takes long says how far it is, beside its checkpoints."""


@dataclass(frozen=True)
class Asked:
    """Names of the folders of stages, the one that was asked for last at the end.

    stages: asked for since the last command that handed over results began, by any command; finished: what that
    command reached, none before there was one.
    """

    stages: tuple[str, ...] = ()
    finished: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunRecord:
    """The record in the folder of a run. Several processes may add to one."""

    folder: Location

    def asks_for(self, stage: str) -> None:
        """The run waits for the stage of this folder from now on. Raises StorageError."""
        self._change(
            lambda asked: Asked((*(name for name in asked.stages if name != stage), stage), asked.finished)
        )

    def finished_with(self, stages: Sequence[str]) -> None:
        """The run has handed over results that came of these stages: what else it asked for counts no more."""
        self._change(lambda asked: Asked(tuple(stages), tuple(stages)))

    def _change(self, change: Callable[[Asked], Asked]) -> None:
        path = self.folder / RECORD_FILE
        while True:
            current = storage.read_bytes(path)
            asked = (None if current is None else decode_asked(current)) or Asked()
            content = json.dumps(vars(change(asked))).encode()
            if current is None:
                written = storage.write_exclusive(path, content)
            else:
                written = content == current or storage.replace_if(path, content, current)
            if written:
                return


def read_asked(folder: Location) -> Asked:
    """What a run has told so far; nothing for a folder that is not one of a run."""
    return decode_asked(storage.read_bytes(folder / RECORD_FILE) or b"") or Asked()


def decode_asked(content: bytes) -> Asked | None:
    """Read the content of a record, that of an earlier version too; None if it is damaged."""
    try:
        told = json.loads(content)
        return Asked(*(tuple(str(name) for name in told.get(key, ())) for key in ("stages", "finished")))
    except (ValueError, AttributeError, TypeError):
        return None
