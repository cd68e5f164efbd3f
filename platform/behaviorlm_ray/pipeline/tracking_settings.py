"""Where a run is told of besides its own folder: an MLflow server. Never part of what identifies a result."""

import importlib.util
import re

from pydantic import Field, field_validator

from behaviorlm.config import Settings, masked
from behaviorlm.errors import ConfigError

ADDRESS = re.compile(r"https?://[^/\s]+\S*|databricks(://\S+)?|(sqlite|postgresql|mysql|mssql)(\+\w+)?://\S+")
"""What MLflow takes for a tracking server or a store; folders it takes no more."""


class TrackingSettings(Settings):
    """Whether and where a run is tracked (docs/tracking.md)."""

    mlflow: str | None = Field(
        default=None,
        description="Address of an MLflow server (http://host:5000) or of its database (sqlite:////path/mlflow.db); "
        "null: the run is not tracked. Credentials are those of MLflow itself (MLFLOW_TRACKING_USERNAME, "
        "MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_TOKEN) and are refused here.",
    )
    experiment: str = Field(
        default="behaviorlm",
        min_length=1,
        max_length=500,
        description="The experiment in which the run stands.",
    )
    registered_model: str | None = Field(
        default=None,
        min_length=1,
        pattern=r"^[^/:]+$",
        description="Name in MLflow's registry: at the end of the run what it recommends is exported and becomes "
        "a new version of it; null: no model is logged.",
    )
    patience_seconds: float = Field(
        default=60.0,
        gt=0,
        description="How long the end of a run waits for a server that does not answer; a model gets a second more "
        "for each MB. The run itself never waits.",
    )

    @field_validator("mlflow")
    @classmethod
    def _mlflow_is_an_address(cls, mlflow: str | None) -> str | None:
        if mlflow is None:
            return None
        if masked(mlflow) != mlflow:
            raise ValueError(
                "an address must hold no user and no password: give them in MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD, those of a database to a server that stands before it"
            )
        if not ADDRESS.fullmatch(mlflow):
            raise ValueError(
                "this is no address of MLflow: allowed are http:// and https:// with a host, databricks, and "
                "sqlite:///, postgresql://, mysql:// and mssql:// with a database"
            )
        return mlflow


def check_tracking(settings: TrackingSettings) -> None:
    """Whether MLflow is there if it is asked for; that it answers is not asked. Raises ConfigError."""
    if settings.mlflow is None:
        return
    if importlib.util.find_spec("mlflow") is None:
        raise ConfigError(
            f"tracking.mlflow: {settings.mlflow} needs MLflow, which is not installed: pip install 'behaviorlm[mlflow]'"
        )
