"""Stages as jobs leave them, made by `run_stage` itself, for tests of what becomes of them."""

from collections.abc import Mapping

from behaviorlm_ray import storage
from behaviorlm_ray.stages.attempts import StageFolder, StageResult
from behaviorlm_ray.stages.finding import StageOutput
from behaviorlm_ray.stages.manifests import Manifest
from behaviorlm_ray.storage import Location
from tests.platform.single_stage import run_stage


def finished_stage(
    root: Location,
    name: str,
    content: str,
    made_from: Mapping[str, Manifest | str] | None = None,
    file: str = "rows.txt",
) -> StageOutput:
    """A committed stage with one file; its identity follows from its name, content and inputs."""

    def body(folder: StageFolder) -> StageResult:
        storage.write_replacing(folder.output / file, content.encode())
        return StageResult(rows={"samples": 3})

    return run_stage(root, name, 1, {"content": content}, made_from or {}, body, report=lambda line: None)


def folder_of(output: StageOutput) -> str:
    """Name of the folder of a stage."""
    return output.folder.parents[1].name


def chain(root: Location, content: str) -> list[StageOutput]:
    """prepare → a_tune → b_tune → evaluate, whose last holds the results of a run."""
    prepare = finished_stage(root, "prepare", content, {"log": "0" * 64})
    prepared = {"prepared": prepare.manifest}
    a_tune = finished_stage(root, "a_tune", content, {**prepared, "base": "1" * 64})
    b_tune = finished_stage(root, "b_tune", content, {**prepared, "start": a_tune.manifest})
    evaluate = finished_stage(root, "evaluate", content, {"ab_tuned": b_tune.manifest}, "results.json")
    return [prepare, a_tune, b_tune, evaluate]


def below_stages(root: Location) -> set[str]:
    """Names of the folders of stages that are there."""
    return set(storage.list_folders(root / "stages"))
