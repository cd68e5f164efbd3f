"""A small log and models that differ, for the tests that score them."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # what is slow to import, and some tests of the folder do without
    from behaviorlm_ray.pipeline.settings import RunSettings
    from behaviorlm_ray.preparation.prepared_log import PreparedLog
    from behaviorlm_ray.stages.finding import StageOutput


@pytest.fixture(scope="session")
def settings(small_base: Path, tmp_path_factory: pytest.TempPathFactory) -> "RunSettings":
    from tests.platform.small_runs import log_rows, run_settings, write_log

    folder = tmp_path_factory.mktemp("scoring")
    path = write_log(folder / "log.csv", log_rows(11, users=14, low=5, high=12))
    return run_settings(folder / "runs", small_base, path, overrides=("execution.scoring_actors=1",))


@pytest.fixture(scope="session")
def prepared_stage(settings: "RunSettings") -> "StageOutput":
    from behaviorlm_ray.pipeline.prepare import prepare
    from behaviorlm_ray.pipeline.run import open_run

    run = open_run(settings)
    return run.runner().run(prepare(run))


@pytest.fixture(scope="session")
def log(prepared_stage: "StageOutput", settings: "RunSettings") -> "PreparedLog":
    from behaviorlm_ray.preparation.prepared_log import PreparedLog

    return PreparedLog(prepared_stage.folder, settings.prompt)


@pytest.fixture(scope="session")
def tuned(settings: "RunSettings", tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four models that differ: adapters with random weights, as tuning would save them."""
    import torch

    from behaviorlm.model.adapters import add_adapter, save_trained
    from behaviorlm.model.base_model import load_model

    folders = []
    for seed in range(4):
        model = add_adapter(load_model(settings.model), settings.model, seed)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        folders.append(tmp_path_factory.mktemp("tuned") / "model")
        save_trained(model, folders[-1])
    return folders


@pytest.fixture(scope="session")
def scored(
    ray_cluster: None,
    settings: "RunSettings",
    log: "PreparedLog",
    tuned: list[Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The test samples, scored by the pool with a tuned model."""
    from behaviorlm_ray.preparation import prepared_log as prepared
    from behaviorlm_ray.scoring import pool as scoring
    from tests.platform.scoring.pool_runs import POOL, task_of

    folder = tmp_path_factory.mktemp("scored") / "scores"
    rows = prepared.rows_of_split(log, "test")
    assert (
        scoring.score(task_of(settings, log, tuned[0]), rows, folder, POOL).samples
        == prepared.count(rows)
        > 15
    )
    return folder
