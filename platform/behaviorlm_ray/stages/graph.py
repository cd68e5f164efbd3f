"""Running, reusing or planning stages that depend on each other, each once, also between pipelines that share them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from behaviorlm_ray.stages.manifests import Manifest, fingerprint
from behaviorlm_ray.stages.run_record import RunRecord
from behaviorlm_ray.stages.running import (
    StageFolder,
    StageOutput,
    StagePlan,
    StageResult,
    plan_stage,
    run_stage,
    stage_folder,
)
from behaviorlm_ray.storage import Location


@dataclass(frozen=True)
class PlannedStage:
    """Stands, while planning, for the output of a stage that has not run.

    recipe: a hash of what it would be made from and how; stages of the same recipe are the same stage.
    """

    recipe: str


Stage = StageOutput | PlannedStage | None
"""A stage's output, or what stands for it while planning; None where a stage has no such input."""


@dataclass
class Shared:
    """What the graphs of a run and of its arms have in common: finished stages by fingerprint, plans by recipe.

    record: where the run says which stages it asks for, if it does.
    """

    finished: dict[str, StageOutput] = field(default_factory=dict)
    plans: dict[str, StagePlan] = field(default_factory=dict)
    record: RunRecord | None = None


@dataclass
class StageGraph:
    """The stages asked for so far. With `planning` nothing runs, and what would run is written down.

    label: what the plan and progress lines call this graph's stages by, besides their names; outputs: finished stages
    by name; recipes: while planning, the recipe of each stage by name.
    """

    root: Location
    planning: bool = False
    label: str = ""
    shared: Shared = field(default_factory=Shared)
    outputs: dict[str, StageOutput] = field(default_factory=dict)
    recipes: dict[str, str] = field(default_factory=dict)

    def stage(
        self,
        name: str,
        version: int,
        config: Mapping[str, Any],
        inputs: Mapping[str, Stage | str],
        body: Callable[[StageFolder], StageResult],
    ) -> Stage:
        """The output of a stage, run or reused; while planning, what stands for it. Arguments as of `run_stage`."""
        if name in self.outputs:
            return self.outputs[name]
        if self.planning:
            return self._planned(name, version, config, inputs)
        known = {key: made for key, value in inputs.items() if (made := _known(value)) is not None}
        identity = fingerprint(name, version, config, _hashes(known))
        if identity not in self.shared.finished:
            if self.shared.record is not None:
                self.shared.record.asks_for(stage_folder(self.root, name, identity).name)
            output = run_stage(self.root, name, version, config, known, body)
            print(
                f"{self._labeled(name)}: {'reused from' if output.reused else 'written to'} {output.folder}"
            )
            self.shared.finished[identity] = output
        self.outputs[name] = self.shared.finished[identity]
        return self.outputs[name]

    def _planned(
        self, name: str, version: int, config: Mapping[str, Any], inputs: Mapping[str, Stage | str]
    ) -> Stage:
        if name in self.recipes:
            return PlannedStage(self.recipes[name])
        made_from = {
            key: value.recipe if isinstance(value, PlannedStage) else _known(value)
            for key, value in inputs.items()
        }
        recipe = self.recipes[name] = fingerprint(name, version, config, _hashes(made_from))
        plan = plan_stage(
            self.root, name, version, config, {key: _known(value) for key, value in inputs.items()}
        )
        self.shared.plans.setdefault(recipe, replace(plan, name=self._labeled(name)))
        if plan.output is None:
            return PlannedStage(recipe)
        self.outputs[name] = plan.output
        return plan.output

    def _labeled(self, name: str) -> str:
        return f"{name} ({self.label})" if self.label else name


def output_of(stage: Stage | str) -> StageOutput | None:
    """The stage's output, if it has one: what bodies are given, which run when their inputs are there."""
    return stage if isinstance(stage, StageOutput) else None


def _known(stage: Stage | str) -> Manifest | str | None:
    return stage if isinstance(stage, str) else stage.manifest if isinstance(stage, StageOutput) else None


def _hashes(inputs: Mapping[str, Manifest | str | None]) -> dict[str, str]:
    return {
        key: value.content_hash if isinstance(value, Manifest) else str(value)
        for key, value in inputs.items()
    }
