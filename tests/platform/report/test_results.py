"""What a finished run says of its models: every baseline is described where it is fitted."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from behaviorlm.baselines import BASELINES, BaselineKind, fit_baselines
from behaviorlm.baselines.frequency import fit_most_frequent
from behaviorlm.baselines.timelines import TimelineArrays
from behaviorlm.events.facts import LogFacts
from behaviorlm.events.summary import doubts
from behaviorlm_ray.report.results import model_note, warnings_of


def two_users(contexts: int) -> TimelineArrays:
    rows = np.arange(8)
    return TimelineArrays(
        behavior=(rows % 3).astype(np.int32),
        user_start=rows // 4 * 4,
        is_target=rows % 4 > 0,
        split=np.zeros(8, np.int8),
        context=np.zeros(8, np.int32),
        behaviors=3,
        contexts=contexts,
        context_values=(("09",), ("10",)),
        context_columns=("before.hour",),
    )


def test_a_baseline_more_is_fitted_and_described_by_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BASELINES, "mine", BaselineKind("what I count", fit_most_frequent))
    fitted = fit_baselines(two_users(contexts=2))
    assert "mine" in fitted and list(fitted) == list(BASELINES)
    notes = {name: model_note(name, {}, {}) for name in fitted}
    assert notes["mine"] == {"kind": "baseline", "description": "what I count"}
    assert len({note["description"] for note in notes.values()} - {""}) == len(BASELINES)


def test_a_warning_of_a_user_does_not_name_him_in_a_report() -> None:
    counts = {f"{split}_targets": 9 for split in ("train", "validation", "test")}
    facts = LogFacts(users=2, largest=[("zoe", 90), ("bob", 10)], counts={"events": 100, **counts})
    said = [*doubts(facts), "another"]
    assert any("zoe" in text for text in said)
    output = cast(Any, SimpleNamespace(manifest=SimpleNamespace(warnings=said)))
    told = warnings_of(output, cast(Any, SimpleNamespace(facts=facts)))
    assert len(told) == len(said) and told[-1] == "another" and not any("zoe" in text for text in told)
