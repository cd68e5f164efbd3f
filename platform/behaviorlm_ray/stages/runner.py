"""Running and planning declared stages: both walk the same stages in the same order, each stage once."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from behaviorlm_ray.console.screen import Screen, screen
from behaviorlm_ray.stages.manifests import Manifest, fingerprint
from behaviorlm_ray.stages.run_record import RunRecord
from behaviorlm_ray.stages.running import StageOutput, StagePlan, plan_stage, run_stage, stage_folder
from behaviorlm_ray.stages.stage import CONTINUED, Made, Stage, in_order
from behaviorlm_ray.storage import Location


@dataclass
class Runner:
    """Runs stages below a root, or says what would run. State: outputs by the recipe of their stage.

    record: where it is written which stages were asked for; None: nowhere. screen: told what happens.
    """

    root: Location
    record: RunRecord | None = None
    screen: Screen = field(default_factory=screen)
    outputs: dict[str, StageOutput] = field(default_factory=dict)

    def run(self, *goals: Stage) -> StageOutput:
        """Run, or reuse, the stages and all that they need; returns the last goal's output. Raises what they raise."""
        ordered = in_order(goals)
        self.screen.expects([stage.label for stage in ordered])
        for stage in ordered:
            if stage.recipe not in self.outputs:
                self.outputs[stage.recipe] = self._run(stage)
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

    def _run(self, stage: Stage) -> StageOutput:
        made = self.made_for(stage)
        inputs: dict[str, Manifest | str] = {
            key: made[key].manifest if isinstance(value, Stage) else value
            for key, value in stage.inputs.items()
        }
        if self.record is not None:
            self.record.asks_for(self._folder_name(stage, inputs))
        if stage.continues is not None:
            plan = plan_stage(self.root, stage.name, stage.version, stage.identity, inputs)
            if plan.output is None:
                made = {**made, CONTINUED: self.run(stage.continues)}
        self.screen.starts(stage.label)
        output = run_stage(
            self.root,
            stage.name,
            stage.version,
            stage.identity,
            inputs,
            lambda folder: stage.body(folder, made),
            report=self.screen.says,
        )
        self.screen.ends(stage.label, str(output.folder), output.reused)
        return output

    def _folder_name(self, stage: Stage, inputs: Mapping[str, Manifest | str]) -> str:
        hashes = {
            key: value.content_hash if isinstance(value, Manifest) else value for key, value in inputs.items()
        }
        identity = fingerprint(stage.name, stage.version, stage.identity, hashes)
        return stage_folder(self.root, stage.name, identity).name

    def _manifest(self, stage: Stage) -> Manifest | None:
        output = self.outputs.get(stage.recipe)
        return None if output is None else output.manifest

    def _check(self, stage: Stage, ordered: list[Stage]) -> None:
        """Hold an output against its own check and those of the stages that read it."""
        output = self.outputs[stage.recipe]
        if stage.check is not None:
            stage.check(output)
        for later in ordered:
            for key, check in later.input_checks.items():
                if later.before[key].recipe == stage.recipe:
                    check(output)
