"""The learning rate over the steps, and settings that contradict themselves."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from behaviorlm_ray.tuning.config import TuningConfig, TuningExecution, learning_rate


@given(
    steps=st.integers(1, 300),
    warmup=st.floats(0, 1),
    schedule=st.sampled_from(["cosine", "linear", "constant"]),
)
def test_rate_rises_to_its_peak_then_never_rises_and_is_never_zero(
    steps: int, warmup: float, schedule: str
) -> None:
    config = TuningConfig(learning_rate=0.5, warmup_share=warmup, schedule=schedule)
    rates = [learning_rate(step, steps, config) for step in range(steps)]
    peak = rates.index(max(rates))
    assert all(0 < rate <= 0.5 for rate in rates)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert max(rates) == pytest.approx(0.5)


def test_cosine_passes_half_of_the_peak_half_way() -> None:
    config = TuningConfig(learning_rate=2.0, warmup_share=0.2, schedule="cosine")
    assert learning_rate(0, 10, config) == pytest.approx(1.0)
    assert learning_rate(2, 10, config) == pytest.approx(2.0)
    assert learning_rate(6, 10, config) == pytest.approx(1.0)
    assert learning_rate(9, 10, config) == pytest.approx(1 + math.cos(math.pi * 7 / 8))


def test_contradicting_settings_are_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="min_workers"):
        TuningExecution(workers=2, min_workers=3)
    with pytest.raises(ValidationError, match="use zero_stage"):
        TuningExecution(zero_options={"stage": 3})
    with pytest.raises(ValidationError, match="zero_stage 0 leaves out"):
        TuningExecution(zero_stage=0, zero_options={"overlap_comm": True})
    with pytest.raises(ValidationError, match="betas"):
        TuningConfig(betas=(0.9, 1.0))
