"""What a run's folder says of its tracked run: where it is, of which configuration, and what it has been told."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, ValidationError

from behaviorlm.config import Settings
from behaviorlm_ray import storage
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.stages.manifests import canonical_json
from behaviorlm_ray.storage import Location

RECORD_FILE = "mlflow.json"
DECIDES_NOTHING = ("storage", "execution", "tracking")
"""Sections that may differ when a run is resumed."""


class TrackingRecord(Settings):
    """The content of the file. told: what was told entirely, by its name, and of which content."""

    mlflow: str = Field(description="address of the server or database")
    experiment: str = Field(description="name of the experiment")
    configuration: str = Field(description="SHA-256 of what decides the run's results")
    experiment_id: str = Field(description="MLflow's name of the experiment")
    run_id: str = Field(description="MLflow's name of the tracked run")
    told: dict[str, str] = Field(default={}, description="what was told entirely, and of which content")

    @property
    def shown_at(self) -> str:
        """Where a person finds it."""
        if self.mlflow.startswith("http"):
            return f"{self.mlflow.rstrip('/')}/#/experiments/{self.experiment_id}/runs/{self.run_id}"
        return f"run {self.run_id} in {self.mlflow}"

    def with_told(self, name: str, content: str) -> Self:
        """The same with one thing more."""
        return self.model_copy(update={"told": self.told | {name: content}})

    def write(self, folder: Location) -> None:
        """Into the folder of the run. Raises StorageError."""
        storage.write_replacing(folder / RECORD_FILE, self.model_dump_json(indent=1).encode())


def read_record(folder: Location) -> TrackingRecord | None:
    """None where there is none that can be read: the run is then tracked anew."""
    content = storage.read_bytes(folder / RECORD_FILE)
    try:
        return None if content is None else TrackingRecord.model_validate_json(content)
    except ValidationError:
        return None


def configuration_hash(settings: RunSettings) -> str:
    """Equal for what is the same run, wherever and how widely it works."""
    decides: Mapping[str, Any] = settings.model_dump(mode="json", exclude=set(DECIDES_NOTHING))
    return hashlib.sha256(canonical_json(decides)).hexdigest()


def content_hash(*digests: str) -> str:
    """Of parts with these SHA-256, as `told` names them."""
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()
