"""Finished runs made in this process: the run's own stages, with Ray's part of them done one after another.

What a stage is, reads and writes is the run's; only how work is spread is not, and a tuned model is a random adapter.
"""

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from behaviorlm.model.adapters import add_adapter, save_trained
from behaviorlm.model.base_model import load_model
from behaviorlm_ray import storage
from behaviorlm_ray.pipeline import tune
from behaviorlm_ray.pipeline.run import Run, open_run
from behaviorlm_ray.report.results import write_results
from behaviorlm_ray.scoring import pool, retention
from behaviorlm_ray.scoring.replica import ScoringTask, WritingReplica
from behaviorlm_ray.scoring.windows import Windows, batch_table
from behaviorlm_ray.stages.attempts import StageFolder, StageResult
from behaviorlm_ray.stages.run_record import RunRecord
from behaviorlm_ray.stages.stage import Made
from behaviorlm_ray.storage import Location
from behaviorlm_ray.tuning.worker import CURVE
from tests.platform.small_runs import log_rows, run_settings, write_log

CURVE_LINES: list[dict[str, Any]] = [
    {
        "step": step,
        "loss": loss,
        "parts": {"samples": loss},
        "samples": 8,
        "tokens": 400,
        "gradient_norm": 0.5,
        "learning_rate": 1e-3,
        "seconds": 0.5,
    }
    for step, loss in enumerate((2.5, 2.25, 2.0))
]
"""The loss curve of every tuned model."""


def finished_run(
    root: Path,
    base: Path,
    monkeypatch: pytest.MonkeyPatch,
    *overrides: str,
    arms: str = "untuned, one_stage",
    rows: list[dict[str, str]] | None = None,
) -> Run:
    """A run of some arms over a small log, with results and report. rows: of the log, in place of 20 users'."""
    without_ray(monkeypatch)
    log = write_log(root / "log.csv", rows or log_rows(21, users=20))
    compared = f"evaluation.arms=[{arms}]"
    run = open_run(run_settings(root / "runs", base, log, overrides=(compared, *overrides)))
    write_results(run, run.runner(RunRecord(run.output_folder)))
    log.unlink()  # nothing of an export may need it
    return run


def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's part of stages is done in this process, one after another."""
    monkeypatch.setattr(pool, "_score_windows", _score_windows)
    monkeypatch.setattr(retention, "measure_retention", lambda *_: {})
    monkeypatch.setattr(tune, "_tune", _tune)


def _score_windows(
    task: ScoringTask,
    windows: Windows,
    folder: Location,
    size: Any,
    earlier: Sequence[Location],
) -> pool.Scored:
    storage.make_folder(folder)
    replica = WritingReplica(task, folder)
    batches = batch_table(windows, np.arange(len(windows)) // size.windows_per_batch)
    for number in range(len(batches)):
        replica(batches.slice(number, 1))
    return pool.Scored(len(windows.rows), 0)


def _tune(folder: StageFolder, made: Made, run: Run, tuning: Any, sources: Any) -> StageResult:
    """A random adapter, another one for each stage, in place of hours."""
    config = run.resolved.model
    model = add_adapter(load_model(config), config, seed=3)
    is_one_stage = folder.stage.startswith("one_stage")
    generator = torch.Generator().manual_seed(3 if is_one_stage else zlib.crc32(folder.stage.encode()))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name or config.adaptation == "full":
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    with storage.writing(folder.output / tune.MODEL) as place:
        save_trained(model, place)
    with storage.writing_file(folder.output / CURVE) as path:
        path.write_text("".join(json.dumps(line) + "\n" for line in CURVE_LINES), encoding="utf-8")
    storage.write_replacing(
        folder.output / "tuned_by", folder.stage.encode()
    )  # no two tunings come to the same
    return StageResult(rows={"steps": len(CURVE_LINES)}, cost={"tokens": 1200.0})
