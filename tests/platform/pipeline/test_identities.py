"""What identifies each stage of the shipped configurations, pinned: a change here makes every finished stage run again.

`identities.json` holds, for each stage, the hash of what it would be made from and how, with constants for what is
read from outside. A key that is added later enters an identity only where it is not at its default.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from behaviorlm.config import load_settings
from behaviorlm_ray.pipeline import pipeline as pipeline_module
from behaviorlm_ray.pipeline.pipeline import Pipeline
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.storage import Location
from jobs.run import whole

ROOT = Path(__file__).resolve().parents[3]
PINNED: dict[str, dict[str, list[str]]] = json.loads(
    Path(__file__).with_name("identities.json").read_text(encoding="utf-8")
)
KINDS = {
    "as it is": [],
    "cross-fitted": ["difficulty.source=cross_fit", "difficulty.measure=reducible"],
}


class ConstantInputs(Pipeline):
    """A pipeline that reads nothing from outside."""

    def variant(self, arm: str) -> Pipeline:
        for name, value in _constants(self).items():
            self.__dict__[name] = value
        found = super().variant(arm)
        for name, value in _constants(found).items():
            found.__dict__[name] = value
        return found


def _constants(pipeline: Pipeline) -> Mapping[str, Any]:
    sources = {f"source_{n}": f"source {n}" for n in range(len(pipeline.settings.auxiliary))}
    return {"log_files": [], "_log_hash": "log", "_base": "base", "_cloze_hash": "cloze"} | {
        "_conversation_hashes": sources
    }


@pytest.mark.parametrize("case", PINNED)
def test_every_stage_keeps_its_identity(case: str, root: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    name, kind = case.split(", ")
    monkeypatch.setattr(pipeline_module, "removed_dropout", lambda model: {})
    settings = load_settings(RunSettings, str(ROOT / "jobs" / "configs" / f"{name}.yaml"), KINDS[kind])
    storage = settings.storage.model_copy(update={"root": str(root)})
    pipeline = ConstantInputs(settings.model_copy(update={"storage": storage}), planning=True)
    pipeline.variant("untuned")
    whole(pipeline)
    pipeline.learned()
    for tuning in ("untuned", "one_stage", "ab_tuned"):
        pipeline.validated(tuning)
    pipeline.validated_at(10, pipeline.ab_tuned_until(10))
    found: dict[str, list[str]] = {}
    for recipe, plan in pipeline.shared.plans.items():
        found.setdefault(plan.name.partition(" ")[0], []).append(recipe)
    assert {stage: sorted(recipes) for stage, recipes in found.items()} == PINNED[case]
