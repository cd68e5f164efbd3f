"""What the folder of a checkpoint is called."""

import re

_FORM = re.compile(r"step-(\d{8,})")


def step_folder(step: int) -> str:
    """The folder's name after so many steps; names sort as steps do."""
    return f"step-{step:08d}"


def step_of(name: str) -> int | None:
    """The steps that a folder's name tells; None if it names no checkpoint."""
    found = _FORM.fullmatch(name)
    return int(found[1]) if found else None
