"""The mix that an arm was tuned on is that of its samples as the loss counts and repeats them."""

from pathlib import Path

import numpy as np
import pytest

from behaviorlm_ray.pipeline.evaluate import training_mix
from tests.platform.small_runs import run_settings

COUNTS = [400, 100, 3, 0]
ARMS = (
    "{weighed: {tuning: one_stage, values: {loss.class_balance: 0.99}}, "
    "repeated: {tuning: one_stage, values: {loss.oversample: 0.5}}, "
    "focal: {tuning: one_stage, values: {loss.focal: 2.0}}}"
)


def mix(tmp_path: Path, arm: str) -> list[float]:
    settings = run_settings(tmp_path, tmp_path, tmp_path / "log.csv", overrides=(f"arms={ARMS}",))
    found = training_mix(settings, arm, COUNTS)
    assert found is not None
    return np.exp(found).tolist()


def test_without_a_balance_it_is_that_of_the_samples(tmp_path: Path) -> None:
    wanted = [n / 507 for n in (401, 101, 4, 1)]
    assert mix(tmp_path, "one_stage") == pytest.approx(wanted, rel=1e-12)
    assert mix(tmp_path, "focal") == pytest.approx(wanted, rel=1e-12)


def test_repeats_count_as_often_as_an_epoch_has_them(tmp_path: Path) -> None:
    # the square roots of 400 * 400, 100 * 400 and 3 * 400, each raised by one
    assert mix(tmp_path, "repeated") == pytest.approx([n / 639 for n in (401, 201, 36, 1)], rel=1e-12)


def test_weights_count_as_in_the_loss(tmp_path: Path) -> None:
    effective = [sum(0.99**k for k in range(max(n, 1))) for n in COUNTS]
    weighed = [(n + 1) / each for n, each in zip(COUNTS, effective, strict=True)]
    wanted = [each / sum(weighed) for each in weighed]
    assert mix(tmp_path, "weighed") == pytest.approx(wanted, rel=1e-6)


def test_what_is_not_known_stays_so(tmp_path: Path) -> None:
    settings = run_settings(tmp_path, tmp_path, tmp_path / "log.csv")
    assert training_mix(settings, "untuned", None) is None
