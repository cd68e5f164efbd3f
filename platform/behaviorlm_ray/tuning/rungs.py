"""Rungs of a tuning: a stage that stops at a step keeps its checkpoint there, and a longer one goes on from it.

The schedule and the learning rate are always those of the whole tuning, and a checkpoint holds everything that the next
step depends on. So what a rung leaves is exactly the state of the whole tuning at that step, and the whole one has the
same identity and the same weights whether it went over rungs or not.
"""

import json
import shutil

from behaviorlm.errors import StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.stages.attempts import StageFolder
from behaviorlm_ray.stages.finding import StageOutput
from behaviorlm_ray.storage import Location
from behaviorlm_ray.tuning import step_records
from behaviorlm_ray.tuning.checkpoints import DESCRIPTION, verify_checkpoint
from behaviorlm_ray.tuning.step_folders import earlier_steps, step_folder

KEPT = "checkpoint"


def keep_checkpoint(folder: StageFolder, step: int) -> None:
    """Make the checkpoint after `step` part of the stage's output."""
    place = next(place for place in _places(folder, step) if _is_whole(place))
    _copy(place, folder.output / KEPT / place.name)


def continue_checkpoint(folder: StageFolder, earlier: StageOutput | None) -> tuple[int, float]:
    """Lay the checkpoint of an earlier rung among this stage's own.

    Returns the step it was taken after and the tokens that it spares; zeros without an earlier rung.
    """
    if earlier is None:
        return 0, 0.0
    step = earlier.manifest.rows["steps"]
    name = step_folder(step)
    if not any(_is_whole(place) for place in _places(folder, step)):
        _copy(earlier.folder / KEPT / name, folder.checkpoints / name)
    cost = earlier.manifest.cost
    return step, cost["tokens"] + cost["tokens_continued"]


def _places(folder: StageFolder, step: int) -> list[Location]:
    """Where this attempt, or an earlier one, may have a checkpoint after `step`."""
    own = folder.checkpoints / step_folder(step)
    return [own, *(place for place in earlier_steps(folder.earlier_checkpoints) if place.name == own.name)]


def _is_whole(checkpoint: Location) -> bool:
    try:
        verify_checkpoint(checkpoint, {})
    except StorageError:
        return False
    return True


def _copy(checkpoint: Location, target: Location) -> None:
    """Copy a checkpoint and the records beside it, its description last: without it there is none."""
    path = storage.local_copy(checkpoint)
    parts = json.loads((path / DESCRIPTION).read_text()).get("records", {})
    if parts:
        step_records.copy_parts(checkpoint.parent, target.parent, parts)
    with storage.writing(target) as folder:
        for file in path.iterdir():
            if file.name != DESCRIPTION:
                shutil.copyfile(file, folder / file.name)
    storage.write_replacing(target / DESCRIPTION, (path / DESCRIPTION).read_bytes())
