"""The stages of a run and what each depends on: prepare, a_tune, score, select, b_tune, evaluate.

Asking for a stage runs, or reuses, everything it needs. With `planning` on nothing runs: the same walk writes down
what would be run or reused.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from behaviorlm.base_model import model_fingerprint
from behaviorlm.conversations import AuxiliarySource, source_files
from behaviorlm.errors import ConfigError, DataError, ModelError
from behaviorlm.events.config import EventsConfig
from behaviorlm.events.files import SourceFile, list_files
from behaviorlm.events.reading import check_columns
from behaviorlm_ray import preparation, stage_bodies
from behaviorlm_ray.cluster import is_submitted_job
from behaviorlm_ray.input_checks import check_log, check_model, check_samples
from behaviorlm_ray.manifests import Manifest, fingerprint
from behaviorlm_ray.prepared import PreparedLog
from behaviorlm_ray.settings import Arm, RunSettings
from behaviorlm_ray.stages import StageFolder, StageOutput, StagePlan, StageResult, plan_stage, run_stage
from behaviorlm_ray.storage import hash_file
from behaviorlm_ray.tuning.config import TuningConfig
from behaviorlm_ray.tuning_inputs import MixedSource, TrainingSamples


@dataclass(frozen=True)
class PlannedStage:
    """Stands, while planning, for the output of a stage that has not run.

    recipe: a hash of what it would be made from and how; stages of the same recipe are the same stage.
    """

    recipe: str


Stage = StageOutput | PlannedStage | None
"""A stage's output, or what stands for it while planning; None where a stage has no such input."""


@dataclass
class Pipeline:
    """One run's stages. State: what was planned or done so far, for the plan and the report."""

    settings: RunSettings
    planning: bool = False
    plans: list[StagePlan] = field(default_factory=list)
    outputs: dict[str, StageOutput] = field(default_factory=dict)
    recipes: dict[str, str] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        """Folder of all runs."""
        return Path(self.settings.storage.root).expanduser().absolute()

    @cached_property
    def log_files(self) -> list[SourceFile]:
        """The log's files, their columns checked. Raises ConfigError or DataError."""
        files = list_files(self.settings.events)
        check_columns(self.settings.events, files)
        return files

    def check_inputs(self) -> None:
        """Look at everything that is read from outside, before cluster work. Raises ConfigError with all problems."""
        problems = []
        for check in (
            lambda: check_log(self.settings.events, self.log_files),
            lambda: self._log_hash,
            lambda: check_model(self.settings),
            lambda: self._base,
            lambda: self._conversation_hashes,
        ):
            try:
                check()
            except (ConfigError, DataError, ModelError) as error:
                if str(error) not in problems:
                    problems.append(str(error))
        if problems and is_submitted_job():
            problems.append(
                f"this is a submitted job, which runs in Ray's copy of the working directory, {Path.cwd()}: paths of "
                "data and models must be absolute, or lie in that directory and not be excluded from the copy"
            )
        if problems:
            raise ConfigError("\n".join(problems))

    def check_samples(self) -> None:
        """Whether the prepared log has what the arms to be compared need. Raises DataError."""
        if isinstance(self.prepared(), StageOutput):
            check_samples(self.settings, self.log())

    def prepared(self) -> Stage:
        """Timelines, vocabulary and prompt."""
        settings = self.settings
        config = {
            "events": _event_identity(settings.events),
            "split": _plain(settings.split),
            "vocabulary": _plain(settings.vocabulary),
            "prompt": _plain(settings.prompt),
            "preparation": _plain(settings.preparation),
        }
        inputs = {"log": self._log_hash, "base": self._base}
        return self._stage(
            "prepare",
            preparation.VERSION,
            config,
            inputs,
            lambda folder: stage_bodies.prepare(folder, settings, self.log_files),
        )

    def conversations(self) -> Stage:
        """The auxiliary conversations as tokens; not asked for without sources."""
        settings = self.settings
        config = {
            "sources": [
                {"name": source.name, "messages": source.messages, "max_tokens": source.max_tokens}
                | {"holdout_share": source.holdout_share}
                for source in settings.auxiliary
            ],
            "chat_template_kwargs": settings.prompt.chat_template_kwargs,
        }
        inputs = {"base": self._base, **self._conversation_hashes}
        return self._stage(
            "conversations", 1, config, inputs, lambda folder: stage_bodies.encode_auxiliary(folder, settings)
        )

    def a_tuned(self, half: int | None = None) -> Stage:
        """A-Tuning: the base model on samples with an anchor target and auxiliary conversations."""
        name = "a_tune" if half is None else f"a_tune_half_{half}"
        return self._tuned(name, self.settings.a_tuning, "anchors", half=half, mixed=True)

    def one_stage(self, half: int | None = None) -> Stage:
        """One-stage tuning: the base model on all samples."""
        name = "one_stage" if half is None else f"one_stage_half_{half}"
        mixed = self.settings.auxiliary_in_one_stage
        return self._tuned(name, self.settings.one_stage, "all", half=half, mixed=mixed)

    def difficulty(self) -> Stage:
        """Every measure of difficulty of every training sample."""
        source, measure = self.settings.difficulty.source, self.settings.difficulty.measure
        prepared = self.prepared()
        models: dict[str, Stage | str] = {}
        if source == "a_tuned":
            models["model"] = self.a_tuned()
        elif source == "base":
            models["model"] = "base"
        else:
            models |= {"model_half_0": self.a_tuned(half=0), "model_half_1": self.a_tuned(half=1)}
        if measure == "reducible":
            models |= {"reference_half_0": self.one_stage(half=0), "reference_half_1": self.one_stage(half=1)}
        config = {
            "difficulty": {
                key: value for key, value in _plain(self.settings.difficulty).items() if key != "measure"
            },
            "reducible": measure == "reducible",
            "model": self._model_identity,
        }
        body = partial(
            stage_bodies.score_difficulty,
            settings=self.settings,
            prepared=_output(prepared),
            models={
                key: value if isinstance(value, str) else _output(value) for key, value in models.items()
            },
        )
        inputs = {"prepared": prepared, "base": self._base, **models}
        return self._stage("score", 1, config, inputs, lambda folder: body(folder))

    def selected(self) -> Stage:
        """The balanced subset for B-Tuning."""
        settings = self.settings
        prepared, scored = self.prepared(), self.difficulty()
        config = {"selection": _plain(settings.selection), "measure": settings.difficulty.measure}
        body = partial(
            stage_bodies.select_samples, settings=settings, prepared=_output(prepared), scored=_output(scored)
        )
        return self._stage(
            "select", 1, config, {"prepared": prepared, "score": scored}, lambda folder: body(folder)
        )

    def ab_tuned(self) -> Stage:
        """B-Tuning: the A-tuned model on the selected subset."""
        return self._tuned(
            "b_tune",
            self.settings.b_tuning,
            "selected",
            start=self.a_tuned(),
            selection=self.selected(),
            mixed=self.settings.auxiliary_in_b_tuning,
        )

    def arm(self, arm: Arm) -> tuple[Stage, bool]:
        """The model of an arm and whether it is tuned at all."""
        tuned: dict[str, Callable[[], Stage]] = {
            "one_stage": self.one_stage,
            "a_tuned": self.a_tuned,
            "ab_tuned": self.ab_tuned,
        }
        return (None, False) if arm == "untuned" else (tuned[arm](), True)

    def scored(self, arm: Arm) -> Stage:
        """Label scores of the validation and test samples, and the loss on held-out conversations."""
        settings = self.settings
        prepared = self.prepared()
        model, is_tuned = self.arm(arm)
        talks = self.conversations() if settings.auxiliary else None
        config = {
            "model": self._model_identity,
            "max_samples": settings.evaluation.max_samples,
            "max_validation_samples": settings.evaluation.max_validation_samples,
            "seed": settings.evaluation.seed,
            "retention_conversations": settings.evaluation.retention_conversations,
        }
        inputs: dict[str, Stage | str] = {"prepared": prepared, "base": self._base}
        inputs |= {"model": model} if is_tuned else {}
        inputs |= {"conversations": talks} if settings.auxiliary else {}
        body = partial(
            stage_bodies.score_arm,
            settings=settings,
            prepared=_output(prepared),
            model=_output(model),
            conversations=_output(talks),
        )
        return self._stage(
            f"predict_{arm}", 2 if arm == "untuned" else 1, config, inputs, lambda folder: body(folder)
        )

    def validated(self, arm: Arm) -> Stage:
        """Both parts of the objective of a search on the validation samples; test is not touched."""
        settings = self.settings
        prepared = self.prepared()
        model, is_tuned = self.arm(arm)
        config = {
            "model": self._model_identity,
            "max_validation_samples": settings.evaluation.max_validation_samples,
            "seed": settings.evaluation.seed,
        }
        inputs: dict[str, Stage | str] = {"prepared": prepared, "base": self._base}
        inputs |= {"model": model} if is_tuned else {}
        body = partial(
            stage_bodies.validate_arm, settings=settings, prepared=_output(prepared), model=_output(model)
        )
        return self._stage(f"validate_{arm}", 1, config, inputs, lambda folder: body(folder))

    def evaluated(self) -> Stage:
        """The comparison of all arms and baselines."""
        settings = self.settings
        prepared = self.prepared()
        self.check_samples()  # before anything is tuned
        arms: dict[str, Stage] = {arm: self.scored(arm) for arm in settings.evaluation.arms}
        config = {"evaluation": _plain(settings.evaluation)}
        body = partial(
            stage_bodies.evaluate_arms,
            settings=settings,
            prepared=_output(prepared),
            arms={arm: _output(stage) for arm, stage in arms.items()},
        )
        return self._stage("evaluate", 2, config, {"prepared": prepared, **arms}, lambda folder: body(folder))

    def log(self) -> PreparedLog:
        """The prepared log, opened. Preparation must have run."""
        prepared = self.prepared()
        assert isinstance(prepared, StageOutput)
        return stage_bodies.open_log(prepared, self.settings)

    @cached_property
    def _base(self) -> str:
        return model_fingerprint(self.settings.model)

    @cached_property
    def _log_hash(self) -> str:
        return stage_bodies.combined_hash([hash_file(file.path).sha256 for file in self.log_files])

    @cached_property
    def _conversation_hashes(self) -> dict[str, str]:
        def combined(source: AuxiliarySource) -> str:
            return stage_bodies.combined_hash([hash_file(path).sha256 for path in source_files(source)])

        return {f"source_{number}": combined(source) for number, source in enumerate(self.settings.auxiliary)}

    @property
    def _model_identity(self) -> dict[str, Any]:
        """How the base is adapted; the base itself is named by its fingerprint, not by its path."""
        return {
            key: value
            for key, value in _plain(self.settings.model).items()
            if key not in ("base", "revision")
        }

    def _tuned(
        self,
        name: str,
        config: TuningConfig,
        samples: TrainingSamples,
        *,
        mixed: bool,
        half: int | None = None,
        start: Stage = None,
        selection: Stage = None,
    ) -> Stage:
        settings = self.settings
        prepared = self.prepared()
        if samples == "anchors" and isinstance(prepared, StageOutput):
            self.log().vocabulary.require_anchors()
        sources = [source for source in settings.auxiliary if source.ratio > 0] if mixed else []
        talks = self.conversations() if sources else None
        identity = {
            "tuning": _plain(config),
            "model": self._model_identity,
            "samples": samples,
            "half": half,
            "auxiliary": [
                {"name": source.name, "ratio": source.ratio, "weight": source.weight} for source in sources
            ],
        }
        inputs: dict[str, Stage | str] = {"prepared": prepared, "base": self._base}
        inputs |= {"conversations": talks} if sources else {}
        inputs |= {"start": start, "selection": selection} if samples == "selected" else {}

        def body(folder: StageFolder) -> StageResult:
            auxiliary = [
                MixedSource(source.name, talks.folder / f"{source.name}.arrow", source.ratio, source.weight)
                for source in sources
                if isinstance(talks, StageOutput)
            ]
            return stage_bodies.tune_model(
                folder,
                settings,
                config,
                _output(prepared),
                samples,
                half,
                _output(selection),
                auxiliary,
                _output(start),
                self._base,
            )

        return self._stage(name, 1, identity, inputs, body)

    def _stage(
        self,
        name: str,
        version: int,
        config: Mapping[str, Any],
        inputs: Mapping[str, Stage | str],
        body: Callable[[StageFolder], StageResult],
    ) -> Stage:
        if name in self.outputs:
            return self.outputs[name]
        if self.planning:
            return self._planned(name, version, config, inputs)
        known = {key: _known(value) for key, value in inputs.items()}
        output = run_stage(
            self.root, name, version, config, {k: v for k, v in known.items() if v is not None}, body
        )
        print(f"{name}: {'reused from' if output.reused else 'written to'} {output.folder}")
        self.outputs[name] = output
        return output

    def _planned(
        self, name: str, version: int, config: Mapping[str, Any], inputs: Mapping[str, Stage | str]
    ) -> Stage:
        if name in self.recipes:
            return PlannedStage(self.recipes[name])
        made_from = {
            key: value.recipe if isinstance(value, PlannedStage) else _known(value)
            for key, value in inputs.items()
        }
        self.recipes[name] = fingerprint(
            name,
            version,
            config,
            {k: v.content_hash if isinstance(v, Manifest) else str(v) for k, v in made_from.items()},
        )
        plan = plan_stage(
            self.root, name, version, config, {key: _known(value) for key, value in inputs.items()}
        )
        self.plans.append(plan)
        if plan.output is None:
            return PlannedStage(self.recipes[name])
        self.outputs[name] = plan.output
        return plan.output


def _output(stage: Stage | str) -> StageOutput | None:
    """The stage's output, if it has one: what bodies are given, which run when their inputs are there."""
    return stage if isinstance(stage, StageOutput) else None


def _known(stage: Stage | str) -> Manifest | str | None:
    return stage if isinstance(stage, str) else stage.manifest if isinstance(stage, StageOutput) else None


def _plain(settings: Any) -> dict[str, Any]:
    return settings.model_dump(mode="json")


def _event_identity(events: EventsConfig) -> dict[str, Any]:
    """What of the mapping determines the events: not where the files lie, nor how many bad rows are tolerated."""
    return {
        key: value for key, value in _plain(events).items() if key not in ("paths", "max_quarantine_share")
    }
