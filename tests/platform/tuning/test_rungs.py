"""Rungs: a tuning that stops at a step, and one that goes on from there, are the whole tuning in two parts."""

import json
from pathlib import Path
from typing import Any

import torch

from behaviorlm_ray.stages.attempts import StageFolder
from behaviorlm_ray.stages.finding import StageOutput
from behaviorlm_ray.stages.lease import Lease, LeaseSeeker
from behaviorlm_ray.stages.manifests import Manifest
from behaviorlm_ray.tuning.rungs import continue_checkpoint, keep_checkpoint
from tests.platform.tuning_runs import toy_schedule, toy_task, trained_parameters, tune_without_ray

STEPS = (2, 3, 1, 3, 1, 2)


def stage_folder(root: Path) -> StageFolder:
    root.mkdir()
    lease = LeaseSeeker(root / "lease.json", 60).try_acquire()
    assert isinstance(lease, Lease)
    lease.release()
    (root / "checkpoints").mkdir()
    return StageFolder(root / "output", root / "checkpoints", lease)


def weights(output: StageOutput) -> dict[str, torch.Tensor]:
    assert isinstance(output.folder, Path)
    return trained_parameters(output.folder)


def run(root: Path, stop: int | None, earlier: StageOutput | None) -> tuple[StageOutput, StageFolder]:
    """Tune up to a step as a stage's body does, and the output that it would commit."""
    folder = stage_folder(root)
    first, spared = continue_checkpoint(folder, earlier)
    task = toy_task(root, open_schedule=toy_schedule(STEPS), stop_step=stop, first_step=first)
    tune_without_ray(task, 1)
    steps = len(STEPS) if stop is None else stop
    if stop is not None:
        keep_checkpoint(folder, steps)
    tokens = sum(line["tokens"] for line in curve(root)[first:])
    manifest = Manifest(
        stage="b_tune",
        version=1,
        fingerprint="",
        attempt="",
        config={},
        inputs={},
        files={},
        rows={"steps": steps},
        metrics={},
        warnings=[],
        versions={},
        started="",
        duration_seconds=0,
        cost={"tokens": tokens, "tokens_continued": spared},
    )
    return StageOutput(manifest, folder.output, reused=False), folder


def curve(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "output" / "loss.jsonl").read_text().splitlines()]


def test_over_two_rungs_weights_rates_and_samples_are_those_of_the_whole_tuning(tmp_path: Path) -> None:
    whole, _ = run(tmp_path / "whole", None, None)
    first, _ = run(tmp_path / "first", 1, None)
    second, _ = run(tmp_path / "second", 4, first)
    last, folder = run(tmp_path / "last", None, second)

    expected, found = weights(whole), weights(last)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    rung = weights(second)
    assert not all(torch.equal(expected[name], rung[name]) for name in expected)

    steps = [(line["loss"], line["learning_rate"], line["tokens"]) for line in curve(tmp_path / "whole")]
    assert [
        (line["loss"], line["learning_rate"], line["tokens"]) for line in curve(tmp_path / "last")
    ] == steps
    assert [
        (line["loss"], line["learning_rate"], line["tokens"]) for line in curve(tmp_path / "second")
    ] == steps[:4]

    tokens = [output.manifest.cost["tokens"] for output in (first, second, last)]
    assert sum(tokens) == whole.manifest.cost["tokens"] == sum(tokens for _, _, tokens in steps)
    assert last.manifest.cost["tokens_continued"] == tokens[0] + tokens[1]
    assert continue_checkpoint(folder, second) == (
        4,
        tokens[0] + tokens[1],
    )  # a second attempt finds it there
