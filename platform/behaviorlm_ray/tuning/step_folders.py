"""The folders of checkpoints: what they are called, which there are, and which go."""

import re
from collections.abc import Sequence
from contextlib import suppress

from behaviorlm.errors import StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.storage import Location

_FORM = re.compile(r"step-(\d{8,})")


def step_folder(step: int) -> str:
    """The folder's name after so many steps; names sort as steps do."""
    return f"step-{step:08d}"


def step_of(name: str) -> int | None:
    """The steps that a folder's name tells; None if it names no checkpoint."""
    found = _FORM.fullmatch(name)
    return int(found[1]) if found else None


def newest_first(root: Location) -> list[str]:
    """Names of the checkpoints right below a folder."""
    return sorted((name for name in storage.list_folders(root) if step_of(name) is not None), reverse=True)


def earlier_steps(earlier: Sequence[Location]) -> list[Location]:
    """The checkpoints of other attempts, newest first: those in their folders, or, of an earlier version, they are."""
    found = [place / name for place in earlier if step_of(place.name) is None for name in newest_first(place)]
    found += [place for place in earlier if step_of(place.name) is not None]
    return sorted(found, key=lambda place: place.name, reverse=True)


def prune(
    root: Location, keep: int, written: int, reading: Location | None = None, earlier: Sequence[Location] = ()
) -> None:
    """Of `root` and of `earlier` attempts, remove all but the newest `keep` up to the step just `written`.

    reading: what the run was continued from; it stays. Later steps than `written` were passed over then; counted among
    the newest, they would push out those that can be continued. What an attempt that began later has is left: this
    one may have been away, and that one be at work.
    """
    places = [*(root / name for name in newest_first(root)), *earlier_steps(earlier)]
    usable = sorted(
        (place for place in places if place.name <= step_folder(written)),
        key=lambda place: place.name,
        reverse=True,
    )
    for place in places:
        if place not in usable[:keep] and place != reading:
            with suppress(StorageError):  # what stays now goes with the next checkpoint
                storage.remove_folder(place)
