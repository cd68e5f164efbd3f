"""The Ray that tests run on: its workers import the project, and Python's own `platform`, not our folder."""

import os
import re
from pathlib import Path

import pytest
import ray

ROOT = Path(__file__).resolve().parents[3]


@ray.remote(num_cpus=1)
def locations() -> dict[str, str]:
    import platform

    import behaviorlm
    import behaviorlm_ray

    return {
        "behaviorlm": behaviorlm.__file__,
        "behaviorlm_ray": behaviorlm_ray.__file__,
        "platform": platform.__file__,
    }


def test_workers_import_this_checkout_and_the_standard_library(ray_cluster: None) -> None:
    found = ray.get(locations.remote())
    assert Path(found["behaviorlm"]) == ROOT / "behaviorlm" / "__init__.py"
    assert Path(found["behaviorlm_ray"]) == ROOT / "platform" / "behaviorlm_ray" / "__init__.py"
    assert not Path(found["platform"]).is_relative_to(ROOT / "platform")


def test_the_cluster_is_of_this_session_alone(ray_cluster: None) -> None:
    assert ray.cluster_resources()["CPU"] == 4
    assert len(ray.nodes()) == 1


def test_a_test_without_the_mark_cannot_start_ray() -> None:
    """Two that each start one on a machine disturb each other, and tests without the mark run side by side."""
    if ray.is_initialized():
        pytest.skip("this process has run tests with the mark before")
    with pytest.raises(NotADirectoryError, match=re.escape(os.environ["RAY_TMPDIR"])):
        ray.init(address="local", include_dashboard=False)
    assert not ray.is_initialized()
