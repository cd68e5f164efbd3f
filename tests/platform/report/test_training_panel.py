"""Loss on validation at the ends of a curve: of the very models that the tuning starts from and ends with."""

from typing import Any

import pytest

from behaviorlm_ray.report.content import ReportData
from behaviorlm_ray.report.panels.training import validation_ends

LOSSES = {
    "untuned": 3.0,
    "a_tuned": 2.0,
    "one_stage": 1.9,
    "ab_tuned": 1.0,
    "all_b": 0.9,
    "ab_own": 0.8,
    "own": 0.7,
}


@pytest.mark.parametrize(
    ("stage", "configuration", "ends"),
    [
        ("a_tune", {}, [3.0, 2.0]),
        ("b_tune", {}, [2.0, 1.0]),
        ("b_tune", {"b_tuning_from": "one_stage"}, [1.9, 1.0]),
        ("b_tune (all_b)", {}, [0.9]),
        ("one_stage (all_b)", {}, [3.0]),
        ("a_tune (ab_own)", {"arms": {"ab_own": {"tuning": "ab_tuned"}}}, [3.0]),
        ("b_tune (ab_own)", {"arms": {"ab_own": {"tuning": "ab_tuned"}}}, [0.8]),
        ("one_stage (own)", {"arms": {"own": {"tuning": "one_stage"}}}, [3.0, 0.7]),
        ("a_tune_half_0 (ab_own)", {"arms": {"ab_own": {"tuning": "ab_tuned"}}}, []),
    ],
)
def test_ends_are_of_what_the_stage_starts_from_and_makes(
    stage: str, configuration: dict[str, Any], ends: list[float]
) -> None:
    losses = {name: {"anchor": loss} for name, loss in LOSSES.items()}
    data = ReportData.model_validate(
        {"title": "t", "breakdowns": {"validation_loss": losses}, "configuration": configuration}
    )
    assert [point["loss"] for point in validation_ends(data, stage, 5)] == ends
