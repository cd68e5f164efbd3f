"""Fixtures of tracked runs; without MLflow their tests are left out, and say so."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("mlflow") is None:  # looked for only: every process that collects tests would load it
    pytest.skip("MLflow is not installed (the extra `mlflow`)", allow_module_level=True)

from behaviorlm_ray.pipeline.run import Run
from tests.platform.export.finished_runs import finished_run


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables, which take seconds to make, to be copied."""
    import os

    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def database(empty_database: Path, tmp_path: Path) -> str:
    """The address of a database of the test's own."""
    return f"sqlite:///{shutil.copy(empty_database, tmp_path / 'mlflow.db')}"


@pytest.fixture(scope="module")
def finished(small_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run that was not tracked. Do not change it: copy it."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        return finished_run(tmp_path_factory.mktemp("tracked"), small_base, monkeypatch)
