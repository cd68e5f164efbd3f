"""A stage of small files for tests, and what it leaves in storage."""

from collections.abc import Callable
from fnmatch import fnmatch
from typing import Any

from behaviorlm_ray import storage
from behaviorlm_ray.stages.attempts import StageFolder, StageResult
from behaviorlm_ray.stages.finding import StageOutput
from behaviorlm_ray.storage import Location
from tests.platform.single_stage import run_stage

CONFIG = {"share": 0.1, "names": ["a", "b"]}


INPUTS = {"log": "0" * 64}


FILES = {
    "rows.arrow": b"\x00\x01" * 500,
    "model/adapter_model.safetensors": b"weights",
    "model/adapter_config.json": b"{}",
}


OTHER_FILES = {path: content[::-1] + b"." for path, content in FILES.items()}


def write_files(
    folder: StageFolder, calls: list[str] | None = None, files: dict[str, bytes] = FILES
) -> StageResult:
    with storage.writing(folder.output) as output:
        for path, content in files.items():
            (output / path).parent.mkdir(exist_ok=True)
            (output / path).write_bytes(content)
    if calls is not None:
        calls.append("ran")
    return StageResult(rows={"events": 3}, metrics={"loss": 0.5}, warnings=["look"], cost={"tokens": 7})


def run(
    root: Location, body: Callable[[StageFolder], StageResult] = write_files, **changes: Any
) -> StageOutput:
    arguments: dict[str, Any] = {"name": "prepare", "version": 1, "config": CONFIG, "inputs": INPUTS}
    return run_stage(root, body=body, **{**arguments, **changes})


def contents(output: StageOutput) -> dict[str, bytes | None]:
    return {path: storage.read_bytes(output.folder / path) for path in output.manifest.files}


def names_below(root: Location, pattern: str) -> list[str]:
    return [name for name in storage.list_files(root) if fnmatch(name, pattern)]


def write(place: Location, text: str) -> None:
    storage.write_replacing(place, text.encode())
