"""Running and planning declared stages: both walk the same stages in the same order, each stage once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from behaviorlm_ray.console.screen import screen
from behaviorlm_ray.stages.finding import StageOutput, StagePlan, identify, plan_stage
from behaviorlm_ray.stages.manifests import Manifest
from behaviorlm_ray.stages.run_record import RunRecord
from behaviorlm_ray.stages.running import StageCall, run_group
from behaviorlm_ray.stages.stage import CONTINUED, Made, Stage, in_order
from behaviorlm_ray.storage import Location

SHOWN = 3
"""Of the stages that another waits for, in a plan."""


@dataclass
class Runner:
    """Runs stages below a root, or says what would run. State: outputs by the recipe of their stage.

    record: where it is written which stages were asked for; None: nowhere. follow: gets each stage's label and output
    when it is there.
    """

    root: Location
    record: RunRecord | None = None
    follow: Callable[[str, StageOutput], None] | None = None
    outputs: dict[str, StageOutput] = field(default_factory=dict)

    def run(self, *goals: Stage) -> StageOutput:
        """Run, or reuse, the stages and all that they need; returns the last goal's output. Raises what they raise."""
        ordered = in_order(goals)
        screen().expects([stage.label for stage in ordered])
        for stage in ordered:
            if stage.recipe not in self.outputs:
                self._run(stage)
            self._check(stage, ordered)
        return self.outputs[goals[-1].recipe]

    def plan(self, *goals: Stage) -> list[tuple[Stage, StagePlan]]:
        """What `run` would do, in its order; nothing is run or written. What is finished is remembered."""
        ordered = in_order(goals)
        plans = []
        for stage in ordered:
            inputs = {
                key: self._manifest(value) if isinstance(value, Stage) else value
                for key, value in stage.inputs.items()
            }
            plan = plan_stage(self.root, stage.name, stage.version, stage.identity, inputs)
            if plan.action == "unknown":
                missing = {earlier.recipe for earlier in stage.before.values()} - self.outputs.keys()
                plan = replace(plan, reason=_after([one.label for one in ordered if one.recipe in missing]))
            plans.append((stage, replace(plan, name=stage.label)))
            if plan.output is not None:
                self.outputs[stage.recipe] = plan.output
                self._check(stage, ordered)
        return plans

    def made_for(self, stage: Stage) -> Made:
        """Those of a stage's inputs that are there."""
        return {
            key: self.outputs[earlier.recipe]
            for key, earlier in stage.before.items()
            if earlier.recipe in self.outputs
        }

    def named(self, *goals: Stage) -> dict[str, StageOutput]:
        """The outputs that are there of the goals and of all that they need, by label."""
        return {
            stage.label: self.outputs[stage.recipe]
            for stage in in_order(goals)
            if stage.recipe in self.outputs
        }

    def _run(self, stage: Stage) -> None:
        call = self._call(stage)
        screen().starts(stage.label)
        [output] = run_group(self.root, [call], report=screen().says)
        self.outputs[stage.recipe] = output
        screen().ends(stage.label, str(output.folder), output.reused)
        if self.follow is not None:
            self.follow(stage.label, output)

    def _call(self, stage: Stage) -> StageCall:
        """The call of a stage whose inputs are there; what it goes on from is run first if it has to run."""
        made = self.made_for(stage)
        inputs: dict[str, Manifest | str] = {
            key: made[key].manifest if isinstance(value, Stage) else value
            for key, value in stage.inputs.items()
        }
        identity = (stage.name, stage.version, stage.identity, inputs)
        if self.record is not None:
            self.record.asks_for(identify(self.root, *identity).folder.name)
        if stage.continues is not None and plan_stage(self.root, *identity).output is None:
            made = {**made, CONTINUED: self.run(stage.continues)}
        return StageCall(*identity, lambda folder: stage.body(folder, made))

    def _manifest(self, stage: Stage) -> Manifest | None:
        output = self.outputs.get(stage.recipe)
        return None if output is None else output.manifest

    def _check(self, stage: Stage, ordered: Sequence[Stage]) -> None:
        """Hold an output against its own check and those of the stages that read it."""
        output = self.outputs[stage.recipe]
        if stage.check is not None:
            stage.check(output)
        for later in ordered:
            for key, check in later.input_checks.items():
                if later.before[key].recipe == stage.recipe:
                    check(output)


def _after(labels: Sequence[str]) -> str:
    """`after prepare, score`; of many stages some."""
    more = len(labels) - SHOWN
    return f"after {', '.join(labels[:SHOWN])}" + (f" and {more} more" if more > 0 else "")
