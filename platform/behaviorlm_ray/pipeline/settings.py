"""The configuration of a run: what each module of the method and the platform is told, in one YAML.

What determines results is apart from `execution`, which only says where and how widely the work runs, and `tracking`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from behaviorlm.baselines import BASELINES
from behaviorlm.config import Settings, validate_settings, with_values
from behaviorlm.errors import ConfigError
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.model.config import ModelConfig
from behaviorlm.opponents.names import OPPONENTS, OpponentName
from behaviorlm.prompts.config import AuxiliarySource, PromptConfig
from behaviorlm.scoring.config import CHOICE_TAUS, TAIL_MINIMUM_TARGETS, ScoringConfig
from behaviorlm.scoring.model_names import COUNTS
from behaviorlm.selection.config import DifficultyConfig, SelectionConfig
from behaviorlm.timelines.config import FewShotConfig, SplitConfig, VocabularyConfig
from behaviorlm.training.config import LossConfig
from behaviorlm_ray.endpoints.settings import EndpointSettings
from behaviorlm_ray.evaluation.oracle import TruthSettings
from behaviorlm_ray.pipeline.arms import PRESETS, ArmSettings
from behaviorlm_ray.pipeline.cost_settings import CostSettings
from behaviorlm_ray.pipeline.tracking_settings import TrackingSettings
from behaviorlm_ray.storage import PATIENCE_SECONDS, Location, location
from behaviorlm_ray.tuning.config import ATuningConfig, TuningConfig, TuningExecution

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""Names that are parts of paths."""

ARM_NAME = r"[a-z][a-z0-9_]*"

OWN_PARTS = {"samples", "keep_tail", "cloze"}
"""Parts of losses and of what is measured that stand beside auxiliary sources, by name."""


class StorageSettings(Settings):
    """Where a run keeps its stages and its results."""

    root: str = Field(
        default="runs",
        description="Folder of all runs, local or s3://bucket/prefix; finished stages in it are shared by runs. "
        "Endpoint, region and credentials of S3 are those of AWS tools (AWS_ENDPOINT_URL, AWS_REGION, …).",
    )
    patience_seconds: float = Field(
        default=PATIENCE_SECONDS,
        ge=0,
        description="How long a request to S3 that fails for a passing reason (5xx, slow-down, time-out, no "
        "connection) is tried again before the job stops, resumably.",
    )

    @field_validator("root")
    @classmethod
    def _root_is_a_place(cls, root: str) -> str:
        try:
            location(root)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return root

    @property
    def place(self) -> Location:
        """The root as storage uses it."""
        return location(self.root, self.patience_seconds)


class PreparationSettings(Settings):
    """How the log is cut into parts."""

    partition_megabytes: int = Field(
        default=64,
        ge=1,
        description="Size of the log's share (as stored) that one part holds; what one process holds at once is about "
        "twice that at most, also of one user.",
    )
    min_partitions: int = Field(
        default=4, ge=1, le=256, description="At least this many parts, for parallel work."
    )


class EvaluationSettings(Settings):
    """Which models are compared, on what, with which intervals."""

    arms: list[str] = Field(
        default=["untuned", "one_stage", "a_tuned", "ab_tuned"],
        min_length=1,
        description=f"Models to compare: {', '.join(PRESETS)}, or those of `arms`.",
    )
    opponents: list[OpponentName] = Field(
        default=[],
        description="Recommenders that are fitted to the log and measured beside the arms, on the same samples and "
        f"history: {', '.join(OPPONENTS)}. They are never recommended or exported. lightgbm needs the extra "
        "`opponents`.",
    )
    max_samples: int | None = Field(
        default=None,
        ge=1,
        description="Test samples that are scored: about the same number of every group (events.group, else the "
        "user), as far as it has them, drawn by the seed; null: all.",
    )
    max_validation_samples: int | None = Field(
        default=None,
        ge=1,
        description="Validation samples, on which rules are chosen: about the same number of every group, as far as it "
        "has them, drawn by the seed; null: all.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of the choice of samples and of the resampling.")
    bootstrap_samples: int = Field(
        default=1000, ge=50, description="Resamples of groups behind each interval."
    )
    tau: list[float] = Field(
        default=list(CHOICE_TAUS),
        min_length=1,
        description="Strengths of logit adjustment from which validation chooses one for each model; below 0 it "
        "favors frequent behaviors.",
    )
    tail_minimum_targets: int = Field(
        default=TAIL_MINIMUM_TARGETS,
        ge=1,
        description="Tail behaviors with at least this many validation targets count in what tau, and a search, is "
        "chosen by: the mean of anchor accuracy and tail macro recall.",
    )
    truth: TruthSettings | None = Field(
        default=None,
        description="For a log of a synthetic world: models are held against the truth, and one beyond it is an error.",
    )
    cloze: str | None = Field(
        default=None,
        description='JSON lines of {"prefix", "right", "wrong": [...]}: questions that tell what is left of the '
        "model's knowledge; null: none.",
    )
    retention_conversations: int = Field(
        default=200, ge=0, description="Held-out conversations of each source on which the loss is measured."
    )
    endpoints: dict[str, EndpointSettings] = Field(
        default={},
        description="Chat models behind OpenAI-compatible endpoints by name, asked as further predictors.",
    )


class ExecutionSettings(Settings):
    """Where and how widely work runs; never part of what identifies a result."""

    scoring_actors: int = Field(default=2, ge=1, description="Largest number of model replicas that score.")
    scoring_tokens: int = Field(
        default=8192,
        ge=64,
        description="Tokens that go through the model at a time while scoring, of prompts and of label tries after "
        "them; on CPUs 2,048 at most, which their caches hold.",
    )
    windows_per_batch: int = Field(
        default=16,
        ge=1,
        description="History windows that a replica takes at a time. Another number, as another one of scoring_tokens, "
        "makes other products of matrices: scores may differ in their last bits.",
    )
    cpus_per_actor: int = Field(default=1, ge=1, description="CPU cores of each scoring replica.")
    max_score_gigabytes: float = Field(
        default=100.0,
        gt=0,
        description="Label scores that a compared model may write: 4 bytes a behavior and evaluated sample. A run that "
        "would write more is refused once the log is prepared, with the evaluation.max_samples that fits.",
    )
    allow_plain: bool = Field(
        default=True,
        description="Whether a base that cannot take token trees may run as plain sequences: the same numbers from "
        "many times the tokens, and a warning says how many. false: such a base is refused.",
    )
    allow_unauthenticated_cluster: bool = Field(
        default=False,
        description="Whether to run on a cluster that other machines reach and that asks for no token.",
    )
    tuning: TuningExecution = Field(
        default=TuningExecution(), description="Workers and checkpoints of tuning."
    )
    costs: CostSettings = Field(default=CostSettings(), description="On what a plan reckons hours and money.")


class RunSettings(Settings):
    """Everything about one run."""

    name: str = Field(
        pattern=NAME,
        description="Name of the run; its results are in <root>/<name>.",
    )
    storage: StorageSettings = Field(default=StorageSettings(), description="Where everything is kept.")
    events: EventsConfig = Field(description="The behavior log and what its columns mean.")
    split: SplitConfig = Field(default=SplitConfig(), description="Training, validation and test.")
    vocabulary: VocabularyConfig = Field(
        default=VocabularyConfig(), description="Behaviors, anchors and tail."
    )
    few_shot: FewShotConfig = Field(
        default=FewShotConfig(),
        description="Whether tuning and counting have few samples, of the tail or of all.",
    )
    prompt: PromptConfig = Field(default=PromptConfig(), description="What the model reads.")
    preparation: PreparationSettings = Field(
        default=PreparationSettings(), description="Parts of the prepared log."
    )
    model: ModelConfig = Field(description="The base model and how it is adapted.")
    auxiliary: list[AuxiliarySource] = Field(
        default=[], description="Sources of auxiliary conversations for A-Tuning and one-stage tuning."
    )
    auxiliary_in_one_stage: bool = Field(
        default=False, description="Whether one-stage tuning mixes in the auxiliary conversations as well."
    )
    auxiliary_in_b_tuning: bool = Field(
        default=False, description="Whether B-Tuning mixes in the auxiliary conversations as well."
    )
    b_tuning_from: Literal["a_tuned", "one_stage"] = Field(
        default="a_tuned",
        description="The model that B-Tuning goes on from, and that judges difficulty for it.",
    )
    loss: LossConfig = Field(default=LossConfig(), description="What every tuning minimizes on its samples.")
    a_tuning: ATuningConfig = Field(
        default=ATuningConfig(), description="A-Tuning: on samples with an anchor target."
    )
    scoring: ScoringConfig = Field(
        default=ScoringConfig(), description="What the probability of a behavior is, everywhere."
    )
    difficulty: DifficultyConfig = Field(
        default=DifficultyConfig(), description="How hard a sample is, by which model."
    )
    selection: SelectionConfig = Field(default=SelectionConfig(), description="The subset for B-Tuning.")
    b_tuning: TuningConfig = Field(default=TuningConfig(), description="B-Tuning: on the selected subset.")
    one_stage: TuningConfig = Field(
        default=TuningConfig(), description="One-stage tuning on all samples, to compare."
    )
    arms: dict[str, ArmSettings] = Field(
        default={}, description="Arms of your own by name, to be listed in evaluation.arms."
    )
    evaluation: EvaluationSettings = Field(
        default=EvaluationSettings(), description="What is compared and how."
    )
    execution: ExecutionSettings = Field(
        default=ExecutionSettings(), description="Where and how widely work runs."
    )
    tracking: TrackingSettings = Field(
        default=TrackingSettings(), description="Whether and where the run is tracked."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [source.name for source in self.auxiliary]
        if len(set(names)) < len(names):
            raise ValueError(f"auxiliary: each source needs a name of its own, got {names}")
        unusable = [name for name in names if not re.fullmatch(NAME, name)]
        if unusable:
            raise ValueError(
                f"auxiliary: names are letters, digits, '.', '_' and '-', not {unusable}: they name files"
            )
        if taken := sorted(OWN_PARTS.intersection(names)):
            raise ValueError(
                f"auxiliary: {', '.join(taken)} is told of under that name already; choose other names"
            )
        if self.name in ("stages", "answers"):
            raise ValueError(f"name: {self.name!r} is a folder of all runs; choose another name")
        if self.split.by == "column" and not self.events.split_column:
            raise ValueError("split.by is 'column', so events.split_column must name the column")
        if self.loss.tokens != "all" and self.scoring.normalization != "trie":
            raise ValueError(
                f"loss.tokens is {self.loss.tokens!r}, so scoring.normalization must be 'trie', not "
                f"{self.scoring.normalization!r}: what such a tuning leaves to other tokens has no meaning"
            )
        self._check_arms()
        return self

    def _check_arms(self) -> None:
        taken = sorted(self.arms.keys() & {*PRESETS, *BASELINES, *OPPONENTS, COUNTS})
        if taken:
            raise ValueError(f"arms: {', '.join(taken)} exist already; choose other names")
        endpoints = self.evaluation.endpoints
        if taken := sorted(endpoints.keys() & {*PRESETS, *BASELINES, *OPPONENTS, COUNTS, *self.arms}):
            raise ValueError(f"evaluation.endpoints: {', '.join(taken)} exist already; choose other names")
        for where, names in (("arms", self.arms), ("evaluation.endpoints", endpoints)):
            if unusable := [name for name in names if not re.fullmatch(ARM_NAME, name)]:
                raise ValueError(f"{where}: names are lower case letters, digits and '_', not {unusable}")
        listed = self.evaluation.arms
        unknown = [name for name in listed if name not in self.all_arms]
        if unknown:
            raise ValueError(
                f"evaluation.arms: there is no {', '.join(unknown)}; known: {', '.join(self.all_arms)}"
            )
        if len(set(listed)) < len(listed):
            raise ValueError(f"evaluation.arms: each arm once, got {listed}")
        opponents = self.evaluation.opponents
        if len(set(opponents)) < len(opponents):
            raise ValueError(f"evaluation.opponents: each opponent once, got {opponents}")
        problems = []
        for name, arm in self.arms.items():
            try:
                with_changed_keys(self, arm.values, f"arms.{name}.values")
            except ConfigError as error:
                problems.append(str(error))
        if problems:
            raise ValueError("\n".join(problems))

    @property
    def all_arms(self) -> dict[str, ArmSettings]:
        """Presets and arms of the run's own by name."""
        return PRESETS | self.arms


def with_changed_keys(settings: RunSettings, values: Mapping[str, Any], source: str) -> RunSettings:
    """The settings of an arm: some dotted keys changed, and no further arms. Raises ConfigError naming `source`."""
    data = settings.model_dump(mode="json")
    data |= {"arms": {}, "evaluation": data["evaluation"] | {"arms": ["untuned"]}}
    try:
        return validate_settings(RunSettings, with_values(data, values), source)
    except ConfigError as error:
        raise error if source in str(error) else ConfigError(f"{source}: {error}") from None


def with_absolute_paths(settings: RunSettings) -> RunSettings:
    """The same settings with every local path absolute: workers run in other folders than the job."""
    base = Path(settings.model.base).expanduser()
    return settings.model_copy(
        update={
            "storage": settings.storage.model_copy(update={"root": _absolute(settings.storage.root)}),
            "events": settings.events.model_copy(
                update={"paths": [_absolute(path) for path in settings.events.paths]}
            ),
            "model": settings.model.model_copy(update={"base": str(base.absolute())})
            if base.exists()
            else settings.model,
            "evaluation": settings.evaluation.model_copy(
                update={"cloze": settings.evaluation.cloze and _absolute(settings.evaluation.cloze)}
            ),
            "auxiliary": [
                source.model_copy(update={"paths": [_absolute(path) for path in source.paths]})
                for source in settings.auxiliary
            ],
        }
    )


def _absolute(path: str) -> str:
    if "://" in path:
        return path
    return str(Path(path).expanduser().absolute())
