"""Habits are counted in the history of a request; a predictor without the key, as older ones are, counts none."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from behaviorlm.baselines.habits import Habits
from behaviorlm.predictor.behavior_model import BehaviorModel
from tests.behaviorlm.predictor.small_artifacts import NAMES, history, write_artifact

AT = "2024-03-03T10:00:00Z"
ROOM = {"room": "hall"}


def by_name(model: BehaviorModel, events: list[dict[str, Any]]) -> dict[str, float]:
    found = model.predict(events, ROOM, at=AT, k=99)
    return {answer.behavior: answer.probability for answer in found.answers}


def test_habits_are_counted_in_all_of_the_history_and_a_cut_one_is_told_of(
    tmp_path: Path,
) -> None:
    habits = Habits(of_user=3, of_last=2)
    write_artifact(tmp_path / "habits", Path(), "counts", habits=habits)
    write_artifact(tmp_path / "none", Path(), "counts")
    model, without = (BehaviorModel.load(tmp_path / name) for name in ("habits", "none"))
    assert model.artifact.wants_whole_history and not without.artifact.wants_whole_history
    for number, unknown in ((0, ()), (1, ()), (12, (5,)), (12, (5, 11))):
        events = history(number)
        for place in unknown:
            events[place]["behavior"] = "no name of the vocabulary"
        names = [event["behavior"] for event in events]
        anybody = by_name(without, events)
        followed = [two for one, two in pairwise(names) if one == names[-1]]
        known, after = ([name for name in of if name in NAMES] for of in (names, followed))
        below = {name: (known.count(name) + 3 * anybody[name]) / (len(known) + 3) for name in NAMES}
        expected = {name: (after.count(name) + 2 * below[name]) / (len(after) + 2) for name in NAMES}
        assert by_name(model, events) == pytest.approx(expected, abs=1e-6)
    events = history(12)
    [*_, told] = model.predict(events[4:], ROOM, at=AT, earlier_events=4).warnings
    assert "habits lack the 4 earlier events" in told
    found = model.predict(events, ROOM, at=AT, explain=True)
    assert found.contributions is not None and [one.event for one in found.contributions] == [9, 10, 11]
    for one in found.contributions:
        left = [event for place, event in enumerate(events) if place != one.event]
        assert one.probability_without == pytest.approx(by_name(model, left)[found.answers[0].behavior])
