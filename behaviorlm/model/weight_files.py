"""The files of a base's weights, looked at by their headers alone: whether all are there, and whole."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from behaviorlm.errors import ModelError

INDEX = "model.safetensors.index.json"
POINTER = b"version https://git-lfs"
"""How a file begins that only says where Git LFS keeps the real one."""


def check_weight_files(folder: Path) -> None:
    """Raise ModelError, in one message, for weights that are missing, cut off or not what the index says.

    A folder without any safetensors file passes: that is for the caller to judge.
    """
    listed = _listed(folder / INDEX)
    names = set(listed) or {path.name for path in folder.glob("*.safetensors")}
    missing = sorted(name for name in names if not (folder / name).is_file())
    if missing:
        raise ModelError(
            f"{folder} lacks {len(missing)} of the {len(names)} files of its weights, such as {missing[0]} "
            f"({INDEX} lists them); copy or download them again"
        )
    for name in sorted(names):
        absent = listed.get(name, set()) - _tensors(folder / name)
        if absent:
            raise ModelError(
                f"{folder / name} lacks {len(absent)} tensors that {INDEX} says it holds, such as {min(absent)}; "
                "files of two models may be mixed: copy or download the folder again"
            )


def _listed(index: Path) -> dict[str, set[str]]:
    """The names of tensors that each file holds by the index; nothing without one."""
    if not index.is_file():
        return {}
    try:
        placed = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        listed: dict[str, set[str]] = {}
        for tensor, name in placed.items():
            listed.setdefault(str(name), set()).add(tensor)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{index} is not readable ({error}); copy or download it again") from None
    elsewhere = [name for name in listed if Path(name).name != name]
    if elsewhere:
        raise ModelError(
            f"{index} names {elsewhere[0]}, which is no file of its folder; copy or download it again"
        )
    return listed


def _tensors(path: Path) -> set[str]:
    """The names of a file's tensors. Opening it compares its size with its header."""
    try:
        with path.open("rb") as file:
            is_pointer = file.read(len(POINTER)) == POINTER
        if is_pointer:
            raise ModelError(
                f"{path} is a pointer of Git LFS and not the weights; fetch them (git lfs pull) or download the model"
            )
        with safe_open(path, framework="pt") as opened:
            return set(opened.keys())
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{path} is no whole file of weights ({error}); it was cut off or damaged on its way: copy or download it "
            "again"
        ) from None
