"""Where a run may be tracked is checked before any work, and changes nothing of what is run."""

import sys
from pathlib import Path

import pytest

from behaviorlm.errors import ConfigError
from behaviorlm_ray.pipeline.evaluate import evaluate
from behaviorlm_ray.pipeline.input_checks import check_inputs
from behaviorlm_ray.pipeline.run import open_run
from behaviorlm_ray.pipeline.tracking_settings import TrackingSettings, check_tracking
from tests.platform.small_runs import log_rows, run_settings, write_log


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:5000",
        "https://mlflow.example.org/under/a/path",
        "sqlite:////srv/mlflow.db",
        "sqlite:///mlflow.db",
        "postgresql+psycopg2://host/db",
        "databricks",
        "databricks://profile",
    ],
)
def test_an_address_of_mlflow_is_taken(address: str) -> None:
    assert TrackingSettings(mlflow=address).mlflow == address


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("mlruns", "this is no address of MLflow: allowed are http"),
        ("file:///srv/mlruns", "this is no address of MLflow"),
        ("http://", "this is no address of MLflow"),
        ("127.0.0.1:5000", "this is no address of MLflow"),
        ("http://host:5000/with blanks", "this is no address of MLflow"),
        ("http://ann:s3cr-t@host", "MLFLOW_TRACKING_USERNAME"),
        ("postgresql://ann:s3cr-t@host/db", "those of a database to a server"),
        ("mysql://host/db?password=s3cr-t", "must hold no user and no password"),
    ],
)
def test_another_one_is_refused_by_its_key_without_its_secret(
    address: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"tracking\.mlflow: ") as refused:
        run_settings(tmp_path, tmp_path / "base", overrides=(f"tracking.mlflow={address}",))
    assert said in str(refused.value) and "s3cr-t" not in str(refused.value)


def test_without_mlflow_a_run_is_refused_before_any_work(
    small_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = write_log(tmp_path / "log.csv", log_rows(1))
    tracked = ("tracking.mlflow=http://host:5000",)
    settings = run_settings(tmp_path / "runs", small_base, log, overrides=tracked)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(
        ConfigError, match=r"tracking\.mlflow: http://host:5000 .*pip install 'behaviorlm\[mlflow\]'"
    ):
        check_inputs(open_run(settings), is_written=True)
    check_tracking(TrackingSettings())  # who does not ask for it needs none
    assert not (tmp_path / "runs" / "small").exists()


def test_tracking_changes_no_stage(small_base: Path, tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.csv", log_rows(1))
    tracked = ("tracking.mlflow=http://host:5000", "tracking.registered_model=shop", "tracking.experiment=x")
    stages = [
        evaluate(open_run(run_settings(tmp_path, small_base, log, overrides=overrides)))
        for overrides in ((), tracked)
    ]
    assert stages[0].recipe == stages[1].recipe
