"""Artifacts that the tests of the predictor share. Do not change them."""

from pathlib import Path

import pytest

from behaviorlm.predictor.behavior_model import BehaviorModel
from tests.behaviorlm.predictor.small_artifacts import PREDICTORS, write_artifact
from tests.platform.small_runs import save_base


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny base model."""
    return save_base(tmp_path_factory.mktemp("predictor base"))


@pytest.fixture(scope="session")
def folders(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of an artifact of each kind."""
    root = tmp_path_factory.mktemp("artifacts")
    for kind in PREDICTORS:
        write_artifact(root / kind, tiny_base, kind)
    return {kind: root / kind for kind in PREDICTORS}


@pytest.fixture(scope="session")
def models(folders: dict[str, Path]) -> dict[str, BehaviorModel]:
    """The opened artifacts by kind."""
    return {kind: BehaviorModel.load(folder, device="cpu") for kind, folder in folders.items()}
