"""What one machine can never have is told before a run waits for it without end."""

from pathlib import Path

import pytest

from behaviorlm.errors import ConfigError
from behaviorlm_ray.pipeline.capacity import lacking, require_capacity
from tests.platform.small_runs import run_settings


@pytest.mark.parametrize(
    ("overrides", "resources", "told"),
    [
        (["execution.tuning.workers=2"], {"CPU": 2}, None),
        (["execution.tuning.workers=3"], {"CPU": 2}, "execution.tuning: 3 workers of 1 CPUs are more than the 2"),
        (["execution.tuning.workers=3", "execution.tuning.min_workers=2"], {"CPU": 2}, None),
        (["execution.tuning.cpus_per_worker=5"], {"CPU": 4}, "execution.tuning: 1 workers of 5 CPUs"),
        (["execution.cpus_per_actor=5"], {"CPU": 4}, "execution.cpus_per_actor: 5 CPUs are more than the 4"),
        (["execution.scoring_actors=50"], {"CPU": 4}, None),
        (["execution.tuning.use_gpu=true"], {"CPU": 4}, "execution.tuning.use_gpu: this machine has no GPU"),
        (["execution.tuning.use_gpu=true"], {"CPU": 4, "GPU": 1}, None),
        (["execution.tuning.use_gpu=true", "execution.tuning.workers=2"], {"CPU": 4, "GPU": 1},
         "2 workers need a GPU each"),
        (["execution.tuning.workers=9", "evaluation.arms=[untuned]"], {"CPU": 2}, None),
    ],
)  # fmt: skip
def test_what_a_machine_lacks_is_told_by_key(
    tmp_path: Path, overrides: list[str], resources: dict[str, float], told: str | None
) -> None:
    settings = run_settings(tmp_path / "runs", tmp_path, tmp_path / "log.csv", overrides=tuple(overrides))
    problems = lacking(settings, resources)
    if told is None:
        assert problems == []
        require_capacity(settings, resources)
        return
    (problem,) = problems
    assert told in problem and "RAY_ADDRESS" in problem
    with pytest.raises(ConfigError, match=r"execution\."):
        require_capacity(settings, resources)
