"""The examples of the API fit the log, however it orders its events."""

from typing import Any

import pytest

from behaviorlm.predictor.artifact import Artifact, EventMapping
from behaviorlm.predictor.behavior_model import BehaviorModel
from behaviorlm.predictor.histories import read_histories
from behaviorlm.predictor.requests import Request
from behaviorlm.service.examples import predict_examples
from tests.behaviorlm.predictor.small_artifacts import EVENTS


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"order": {"column": "step", "kind": "integer"}, "clock": []},
        {"order": {"column": "time", "time_format": "%d/%m/%Y %H:%M:%S", "time_zone": "Europe/Prague"}},
        {
            "order": {
                "column": ["day", "step"],
                "kind": ["time", "integer"],
                "time_format": ["%Y-%m-%d", None],
            },
            "clock": [],
        },
        {"order": {"column": "since", "kind": "duration"}, "clock": [], "session": "visit"},
        {"order": {"column": "since", "kind": "duration", "time_format": "%H:%M"}, "clock": []},
    ],
    ids=lambda changed: str(changed.get("order", "as it is")),
)
def test_nothing_of_an_example_is_left_out(models: dict[str, BehaviorModel], changed: dict[str, Any]) -> None:
    mapping = EventMapping.model_validate({**EVENTS.model_dump(), "paths": [], **changed})
    told = {**models["counts"].artifact.model_dump(), "events": mapping}
    asked = predict_examples(Artifact.model_validate(told))["one"]["value"]
    [found] = read_histories([Request(asked["history"], asked["context"], asked["at"])], mapping)
    assert found.size == 2 and not found.warnings
