"""A stage as it is declared: what identifies it, what it reads, what it does; and the order in which stages run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from behaviorlm_ray.stages.attempts import StageFolder, StageResult
from behaviorlm_ray.stages.finding import StageOutput
from behaviorlm_ray.stages.manifests import fingerprint

if TYPE_CHECKING:
    from behaviorlm_ray.costs.log_sample import LogSample
    from behaviorlm_ray.costs.stage_cost import StageCost

Made = Mapping[str, StageOutput]
"""Outputs of a stage's inputs, by the input's name."""

Check = Callable[[StageOutput], None]
"""Looks at an output, reused ones too, and raises what is wrong with it."""

CONTINUED = "continued"
"""The name under which a body finds the output of the stage that it goes on from."""


@dataclass(frozen=True, eq=False)
class Stage:
    """One step of a pipeline. Declaring it runs and reads nothing of other stages.

    name, version, identity, inputs: what identifies it. `version` is that of its code, `identity` the part of the
    configuration that decides its output (JSON values), `inputs` other stages, or content hashes of what is read from
    outside. body: what it does, once its inputs are there. check: held against its own output, also a reused one.
    input_checks: held against an input as soon as that is there, before other inputs are made. continues: a stage whose
    work this one goes on with if it has to run; that decides nothing of what comes out. estimate: what it would do, in
    words, from those inputs that are there. cost: what it would take, told by some timelines of the log. group: of
    stages of a kind, `tune` of those that tune. arm: for which arm of a comparison it is declared, for people.
    """

    name: str
    version: int
    identity: Mapping[str, Any]
    inputs: Mapping[str, "Stage | str"]
    body: Callable[[StageFolder, Made], StageResult]
    check: Check | None = None
    input_checks: Mapping[str, Check] = field(default_factory=dict)
    continues: "Stage | None" = None
    estimate: Callable[[Made], str | None] | None = None
    cost: "Callable[[LogSample], StageCost] | None" = None
    group: str = ""
    arm: str = ""

    @cached_property
    def recipe(self) -> str:
        """A hash of what it is made from and how, known before anything runs. Equal recipes are the same stage."""
        made_from = {
            key: value.recipe if isinstance(value, Stage) else value for key, value in self.inputs.items()
        }
        return fingerprint(self.name, self.version, self.identity, made_from)

    @property
    def label(self) -> str:
        """Its name for people."""
        return f"{self.name} ({self.arm})" if self.arm else self.name

    @property
    def before(self) -> dict[str, "Stage"]:
        """The stages among its inputs, by the input's name."""
        return {key: value for key, value in self.inputs.items() if isinstance(value, Stage)}


def in_order(goals: Sequence[Stage]) -> list[Stage]:
    """All stages that the goals need, each once, in the order in which they run.

    First come those from which the way to a goal is longest: what several wait for is begun soon, and all models are
    tuned before any is scored, so that one scoring after another finds warm processes. Of equal stages the one that is
    declared for no arm stands for all.
    """
    found: dict[str, Stage] = {}
    distance: dict[str, int] = {}

    def visit(stage: Stage, steps: int) -> None:
        known = found.get(stage.recipe)
        if known is None or (known.arm and not stage.arm):
            found[stage.recipe] = stage
        if distance.get(stage.recipe, -1) < steps:
            distance[stage.recipe] = steps
            for earlier in stage.before.values():
                visit(earlier, steps + 1)

    for goal in goals:
        visit(goal, 0)
    return sorted(found.values(), key=lambda stage: (-distance[stage.recipe], bool(stage.arm)))
