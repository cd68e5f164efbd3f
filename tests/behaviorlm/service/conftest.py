"""A counting predictor and a small mixture of both, served in this process. Do not change them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from behaviorlm.config import load_settings
from behaviorlm.predictor.behavior_model import BehaviorModel
from behaviorlm.service.app import build_app
from behaviorlm.service.settings import ServeSettings
from tests.behaviorlm.predictor.small_artifacts import write_artifact
from tests.platform.small_runs import save_base

Serve = Callable[..., TestClient]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of a predictor that counts, and of one that does both."""
    root = tmp_path_factory.mktemp("served")
    base = save_base(root / "base")
    for kind in ("counts", "fused"):
        write_artifact(root / kind, base, kind)
    return {kind: root / kind for kind in ("counts", "fused")}


@pytest.fixture(scope="session")
def models(folders: dict[str, Path]) -> dict[str, BehaviorModel]:
    """The same, opened."""
    return {kind: BehaviorModel.load(folder, device="cpu") for kind, folder in folders.items()}


@pytest.fixture
def serve(
    folders: dict[str, Path], models: dict[str, BehaviorModel], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Serve]:
    """Serve a kind, or another opened model, in this process: serve("counts", "limits.k=3")."""
    monkeypatch.delenv("BEHAVIORLM_TOKEN", raising=False)
    with ExitStack() as running:

        def started(kind: str = "counts", *keys: str, model: Any = None) -> TestClient:
            settings = load_settings(ServeSettings, None, [f"model={folders[kind]}", *keys])
            app = build_app(settings, lambda: models[kind] if model is None else model)
            return running.enter_context(TestClient(app, base_url="http://127.0.0.1"))

        yield started
