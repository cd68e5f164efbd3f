"""Fixtures that several tests of the platform share."""

from pathlib import Path

import pytest

from tests.platform.small_runs import save_base


@pytest.fixture(scope="session")
def small_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny base model. Do not change it: it is shared."""
    return save_base(tmp_path_factory.mktemp("base"))
