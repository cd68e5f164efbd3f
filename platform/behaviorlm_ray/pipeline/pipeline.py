"""The stages of a run and what each depends on: prepare, a_tune, score, select, b_tune, evaluate.

Asking for a stage runs, or reuses, everything it needs. With `planning` on nothing runs: the same walk writes down
what would be run or reused.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from behaviorlm.errors import ConfigError, DataError, ModelError, StorageError
from behaviorlm.events.config import EventsConfig
from behaviorlm.events.reading import check_columns
from behaviorlm.events.source_files import SourceFile, list_files
from behaviorlm.files.patient_reads import patience
from behaviorlm.model.base_model import model_fingerprint, removed_dropout
from behaviorlm.prompts.config import AuxiliarySource
from behaviorlm.prompts.conversations import source_files
from behaviorlm.scoring.cloze_questions import read_cloze
from behaviorlm.training.schedule import step_count, steps_per_epoch
from behaviorlm_ray.cluster.submission import is_submitted_job
from behaviorlm_ray.pipeline import stage_bodies, stage_versions
from behaviorlm_ray.pipeline.arms import Tuning
from behaviorlm_ray.pipeline.input_checks import (
    check_conversation_lengths,
    check_log,
    check_model,
    check_quarantined_conversations,
    check_quarantined_rows,
    check_samples,
)
from behaviorlm_ray.pipeline.settings import RunSettings, with_changed_keys
from behaviorlm_ray.preparation.prepared_log import PreparedLog
from behaviorlm_ray.stages.graph import Shared, Stage, StageGraph, output_of
from behaviorlm_ray.stages.running import StageFolder, StageOutput, StagePlan, StageResult
from behaviorlm_ray.storage import Location, check_root, hash_file, location
from behaviorlm_ray.tuning.config import TuningConfig
from behaviorlm_ray.tuning.inputs import MixedSource, TrainingSamples


@dataclass(frozen=True)
class AskedTuning:
    """A tuning that a pipeline came by: how, and on which training samples."""

    config: TuningConfig
    samples: TrainingSamples
    half: int | None
    stop_step: int | None


@dataclass
class Pipeline:
    """One run's stages. State: what was planned or done so far, for the plan and the report.

    arm: the arm whose changed keys `settings` has; empty for the run itself. tunings: what was asked to be tuned, by
    the stage's name.
    """

    settings: RunSettings
    planning: bool = False
    arm: str = ""
    shared: Shared = field(default_factory=Shared)
    variants: dict[str, "Pipeline"] = field(default_factory=dict)
    tunings: dict[str, AskedTuning] = field(default_factory=dict)

    @cached_property
    def graph(self) -> StageGraph:
        """The stages so far."""
        return StageGraph(self.root, self.planning, self.arm, self.shared)

    @property
    def outputs(self) -> dict[str, StageOutput]:
        """Finished stages by name."""
        return self.graph.outputs

    @property
    def recipes(self) -> dict[str, str]:
        """While planning, a hash by name of what each stage would be made from and how."""
        return self.graph.recipes

    @property
    def plans(self) -> list[StagePlan]:
        """What was planned, each stage once, those of arms too."""
        return list(self.shared.plans.values())

    def all_outputs(self) -> dict[str, StageOutput]:
        """Every stage's output once, by its name; a stage that only an arm has is called `stage (arm)`."""
        named = dict(self.outputs)
        for arm, variant in self.variants.items():
            known = {output.folder for output in named.values()}
            named |= {
                f"{name} ({arm})": output
                for name, output in variant.outputs.items()
                if output.folder not in known
            }
        return named

    def variant(self, arm: str) -> "Pipeline":
        """The pipeline with the changed keys of an arm; it shares every stage that they do not touch."""
        values = self.settings.all_arms[arm].values
        if not values:
            return self
        if arm not in self.variants:
            changed = with_changed_keys(self.settings, values, f"arms.{arm}.values")
            made = Pipeline(changed, self.planning, arm, self.shared)
            for name in ("log_files", "_log_hash", "_base"):  # read from files once
                made.__dict__[name] = getattr(self, name)
            self.variants[arm] = made
        return self.variants[arm]

    @property
    def root(self) -> Location:
        """Folder of all runs."""
        return self.settings.storage.place

    @cached_property
    def log_files(self) -> list[SourceFile]:
        """The log's files, their columns checked. Raises ConfigError or DataError."""
        files = list_files(self.settings.events)
        check_columns(self.settings.events, files)
        return files

    def check_inputs(self) -> None:
        """Look at everything that is read from outside, before cluster work. Raises ConfigError with all problems.

        Its cause is a StorageError if storage is one of them: that may pass.
        """
        problems = []
        of_storage: StorageError | None = None
        checks: list[Callable[[], object]] = [
            self._check_root,
            lambda: check_log(self.settings.events, self.log_files),
            lambda: self._log_hash,
            lambda: check_model(self.settings),
            lambda: self._base,
            lambda: self._conversation_hashes,
            lambda: self._cloze_hash,
            *(partial(self._check_variant, arm) for arm in self.settings.evaluation.arms),
        ]
        for check in checks:
            try:
                with patience(self.settings.storage.patience_seconds):
                    check()
            except (ConfigError, DataError, ModelError, StorageError) as error:
                if isinstance(error, StorageError):
                    of_storage = error
                if str(error) not in problems:
                    problems.append(str(error))
        if problems and is_submitted_job():
            problems.append(
                f"this is a submitted job, which runs in Ray's copy of the working directory, {Path.cwd()}: paths of "
                "data and models must be absolute, or lie in that directory and not be excluded from the copy"
            )
        if problems:
            raise ConfigError("\n".join(problems)) from of_storage

    def _check_root(self) -> None:
        try:
            check_root(self.root, is_written=not self.planning)
        except StorageError as error:
            raise StorageError(f"storage.root: {error}") from error

    def _check_variant(self, arm: str) -> None:
        variant = self.variant(arm)
        _ = variant._conversation_hashes
        if variant.settings.auxiliary == self.settings.auxiliary:
            return
        try:
            check_conversation_lengths(variant.settings)
        except ConfigError as error:
            raise ConfigError(f"arms.{arm}.values: {error}") from None

    def check_samples(self) -> None:
        """Whether the prepared log has what the arms to be compared need. Raises DataError."""
        if isinstance(self.prepared(), StageOutput):
            check_samples(self.settings, self.log())

    def prepared(self) -> Stage:
        """Timelines, vocabulary and prompt. Raises DataError for too many unusable rows, also of what is reused."""
        settings = self.settings
        config = {
            "events": _event_identity(settings.events),
            "split": _plain(settings.split),
            "vocabulary": _plain(settings.vocabulary),
            "prompt": _plain(settings.prompt),
            "preparation": _plain(settings.preparation),
        }
        inputs = {"log": self._log_hash, "base": self._base}
        prepared = self.graph.stage(
            "prepare",
            stage_versions.PREPARE,
            config,
            inputs,
            lambda folder: stage_bodies.prepare(folder, settings, self.log_files),
        )
        if isinstance(prepared, StageOutput):
            check_quarantined_rows(prepared, settings.events)
        return prepared

    def conversations(self) -> Stage:
        """The auxiliary conversations as tokens; not asked for without sources. Raises DataError as `prepared` does."""
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
        encoded = self.graph.stage(
            "conversations",
            stage_versions.CONVERSATIONS,
            config,
            inputs,
            lambda folder: stage_bodies.encode_auxiliary(folder, settings),
        )
        if isinstance(encoded, StageOutput):
            check_quarantined_conversations(encoded, settings.auxiliary)
        return encoded

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
        judges: dict[str, str] = {}
        if source == "start":
            models["model"] = self._start()
        elif source == "base":
            models["model"] = "base"
        else:
            models |= {"model_half_0": self._start(half=0), "model_half_1": self._start(half=1)}
            judges = {"judge": "told for each sample"}
        if measure == "reducible":
            models |= {"reference_half_0": self.one_stage(half=0), "reference_half_1": self.one_stage(half=1)}
        config = {
            "difficulty": {
                key: value for key, value in _plain(self.settings.difficulty).items() if key != "measure"
            },
            "reducible": measure == "reducible",
            "model": self._model_identity,
            **judges,
        }
        body = partial(
            stage_bodies.score_difficulty,
            settings=self.settings,
            prepared=output_of(prepared),
            models={
                key: value if isinstance(value, str) else output_of(value) for key, value in models.items()
            },
        )
        inputs = {"prepared": prepared, "base": self._base, **models}
        return self.graph.stage("score", stage_versions.SCORE, config, inputs, lambda folder: body(folder))

    def learned(self) -> Stage:
        """The measures of difficulty once more, of the same samples, by the model after B-Tuning."""
        prepared, tuned = self.prepared(), self.ab_tuned()
        limits = self.settings.difficulty
        config = {
            "samples": {"max_per_behavior": limits.max_per_behavior, "seed": limits.seed},
            "model": self._model_identity,
        }
        body = partial(
            stage_bodies.score_difficulty,
            settings=self.settings,
            prepared=output_of(prepared),
            models={"model": output_of(tuned)},
        )
        inputs = {"prepared": prepared, "base": self._base, "model": tuned}
        return self.graph.stage("learned", stage_versions.SCORE, config, inputs, lambda folder: body(folder))

    def selected(self) -> Stage:
        """The balanced subset for B-Tuning."""
        settings = self.settings
        prepared, scored = self.prepared(), self.difficulty()
        config = {"selection": _plain(settings.selection), "measure": settings.difficulty.measure}
        body = partial(
            stage_bodies.select_samples,
            settings=settings,
            prepared=output_of(prepared),
            scored=output_of(scored),
        )
        return self.graph.stage(
            "select",
            stage_versions.SELECT,
            config,
            {"prepared": prepared, "score": scored},
            lambda folder: body(folder),
        )

    def ab_tuned(self, earlier: Callable[[], Stage] | None = None) -> Stage:
        """B-Tuning: the A-tuned (or one-stage tuned) model on the selected subset.

        earlier: a rung of it (`ab_tuned_until`) to go on from, asked for if B-Tuning has to run.
        """
        return self._b_tuned("b_tune", None, earlier)

    def ab_tuned_until(self, step: int, earlier: Callable[[], Stage] | None = None) -> Stage:
        """The first steps of B-Tuning, exactly as the whole one has them; see `ab_tuned` for `earlier`."""
        return self._b_tuned(f"b_tune_step_{step}", step, earlier)

    def b_tuning_steps(self) -> tuple[int, int]:
        """Steps of the whole B-Tuning and of one epoch of it. The selection must have run."""
        selected, config = self.selected(), self.settings.b_tuning
        assert isinstance(selected, StageOutput)
        samples = selected.manifest.rows["samples"]
        steps = step_count(samples, config.samples_per_step, config.epochs, config.max_steps)
        return steps, steps_per_epoch(samples, config.samples_per_step)

    def _b_tuned(self, name: str, stop_step: int | None, earlier: Callable[[], Stage] | None) -> Stage:
        return self._tuned(
            name,
            self.settings.b_tuning,
            "selected",
            start=self._start(),
            selection=self.selected(),
            mixed=self.settings.auxiliary_in_b_tuning,
            stop_step=stop_step,
            earlier=earlier,
        )

    def _start(self, half: int | None = None) -> Stage:
        return (self.a_tuned if self.settings.b_tuning_from == "a_tuned" else self.one_stage)(half)

    def model(self, tuning: Tuning) -> tuple[Stage, bool]:
        """The model after a tuning and whether it is tuned at all."""
        tuned: dict[str, Callable[[], Stage]] = {
            "one_stage": self.one_stage,
            "a_tuned": self.a_tuned,
            "ab_tuned": self.ab_tuned,
        }
        return (None, False) if tuning == "untuned" else (tuned[tuning](), True)

    def scored(self, tuning: Tuning) -> Stage:
        """Label scores of the validation and test samples, and the loss on held-out conversations."""
        settings = self.settings
        prepared = self.prepared()
        model, is_tuned = self.model(tuning)
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
        inputs |= {"cloze": self._cloze_hash} if settings.evaluation.cloze else {}
        body = partial(
            stage_bodies.score_arm,
            settings=settings,
            prepared=output_of(prepared),
            model=output_of(model),
            conversations=output_of(talks),
        )
        return self.graph.stage(
            f"predict_{tuning}", stage_versions.PREDICT, config, inputs, lambda folder: body(folder)
        )

    def validated(self, tuning: Tuning) -> Stage:
        """Both parts of the objective of a search on the validation samples; test is not touched."""
        return self._validated(f"validate_{tuning}", *self.model(tuning))

    def validated_at(self, step: int, rung: Stage) -> Stage:
        """The same of B-Tuning's first steps (`ab_tuned_until`)."""
        return self._validated(f"validate_step_{step}", rung, True)

    def _validated(self, name: str, model: Stage, is_tuned: bool) -> Stage:
        settings = self.settings
        prepared = self.prepared()
        config = {
            "model": self._model_identity,
            "max_validation_samples": settings.evaluation.max_validation_samples,
            "seed": settings.evaluation.seed,
            "tail_minimum_targets": settings.evaluation.tail_minimum_targets,
        }
        inputs: dict[str, Stage | str] = {"prepared": prepared, "base": self._base}
        inputs |= {"model": model} if is_tuned else {}
        body = partial(
            stage_bodies.validate_arm, settings=settings, prepared=output_of(prepared), model=output_of(model)
        )
        return self.graph.stage(name, stage_versions.VALIDATE, config, inputs, lambda folder: body(folder))

    def evaluated(self) -> Stage:
        """The comparison of all arms and baselines."""
        settings = self.settings
        prepared = self.prepared()
        self.check_samples()  # before anything is tuned
        tunings = {arm: settings.all_arms[arm].tuning for arm in settings.evaluation.arms}
        for arm, tuning in tunings.items():  # all of it first: one scoring after another finds warm processes
            self.variant(arm).model(tuning)
        arms: dict[str, Stage] = {arm: self.variant(arm).scored(tuning) for arm, tuning in tunings.items()}
        config = {
            "evaluation": {
                key: value for key, value in _plain(settings.evaluation).items() if key != "cloze"
            },
            "world": settings.evaluation.truth and settings.evaluation.truth.generator().version,
        }
        body = partial(
            stage_bodies.evaluate_arms,
            settings=settings,
            prepared=output_of(prepared),
            arms={arm: output_of(stage) for arm, stage in arms.items()},
        )
        return self.graph.stage(
            "evaluate",
            stage_versions.EVALUATE,
            config,
            {"prepared": prepared, **arms},
            lambda folder: body(folder),
        )

    def log(self) -> PreparedLog:
        """The prepared log, opened. Preparation must have run."""
        prepared = self.prepared()
        assert isinstance(prepared, StageOutput)
        return stage_bodies.open_log(prepared, self.settings)

    @property
    def input_hashes(self) -> dict[str, Any]:
        """Content hashes of everything that is read from outside."""
        return {"log": self._log_hash, "base": self._base, **self._conversation_hashes}

    @cached_property
    def _base(self) -> str:
        return model_fingerprint(self.settings.model)

    @cached_property
    def _log_hash(self) -> str:
        return stage_bodies.hash_of_files("the log", [file.path for file in self.log_files])

    @cached_property
    def _cloze_hash(self) -> str:
        path = self.settings.evaluation.cloze
        if path is None:
            return ""
        read_cloze(path)  # so that what is wrong with it shows before cluster work
        return hash_file(location(path)).sha256

    @cached_property
    def _conversation_hashes(self) -> dict[str, str]:
        def combined(source: AuxiliarySource) -> str:
            return stage_bodies.hash_of_files(f"auxiliary source {source.name}", source_files(source))

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
        stop_step: int | None = None,
        earlier: Callable[[], Stage] | None = None,
    ) -> Stage:
        settings = self.settings
        self.tunings[name] = AskedTuning(config, samples, half, stop_step)
        prepared = self.prepared()
        if samples == "anchors" and isinstance(prepared, StageOutput):
            self.log().vocabulary.require_anchors()
        sources = [source for source in settings.auxiliary if source.ratio > 0] if mixed else []
        talks = self.conversations() if sources else None
        identity: dict[str, Any] = {
            "tuning": _plain(config),
            "model": self._model_identity,
            "samples": samples,
            "half": half,
            "auxiliary": [
                {"name": source.name, "ratio": source.ratio, "weight": source.weight} for source in sources
            ],
        }
        identity |= {} if stop_step is None else {"stop_step": stop_step}
        # Only where there is any, so that models tuned from a base without dropout keep their identity.
        dropout = removed_dropout(settings.model)
        identity |= {"removed_dropout": dropout} if dropout else {}
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
                output_of(prepared),
                samples,
                half,
                output_of(selection),
                auxiliary,
                output_of(start),
                self._base,
                stop_step,
                output_of(earlier()) if earlier else None,
            )

        return self.graph.stage(name, stage_versions.TUNE, identity, inputs, body)


def _plain(settings: Any) -> dict[str, Any]:
    return settings.model_dump(mode="json")


def _event_identity(events: EventsConfig) -> dict[str, Any]:
    """What of the mapping determines the events: not where the files lie, nor how many bad rows are tolerated."""
    return {
        key: value for key, value in _plain(events).items() if key not in ("paths", "max_quarantine_share")
    }
