"""What a study is told: the run to repeat, the seeds, and the conditions under which it is repeated."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from behaviorlm.config import Settings, validate_settings, with_values
from behaviorlm.errors import ConfigError
from behaviorlm_lab.pretraining.recipe import STEPS
from behaviorlm_ray.console.config_files import read_config
from behaviorlm_ray.pipeline.settings import NAME, RunSettings, with_changed_keys

SEEDED = ("a_tuning.seed", "one_stage.seed", "b_tuning.seed", "selection.seed", "difficulty.seed")
"""Keys of a run that get the study's seed; the samples that are measured on are those of the log of that seed."""

REFERENCE = "one_stage+adjusted"
"""What the others are compared with by default: hard to beat, and it costs nothing beyond one-stage tuning."""

PRIMARY_MODEL = "ab_tuned+adjusted"
"""The model whose difference to the reference a study is about, as the method claims it: A+B by difficulty, adjusted
like the reference."""

MAIN = "main"
"""The condition that the primary contrast is of, and that guards are compared with."""


class Condition(Settings):
    """One way of making log and base model; the defaults are those of the main result."""

    generator: Literal["main", "second"] = Field(default="main", description="The world the log is from.")
    opaque: bool = Field(
        default=False, description="Codes instead of names in the log; the base has read the names."
    )
    base: Literal["shipped", "recipe", "random"] = Field(
        default="shipped",
        description="shipped: the run's model.base; recipe: made by behaviorlm pretrain's recipe with `knowledge` and "
        "`pretraining_steps`; random: the same shape and tokenizer, never trained.",
    )
    knowledge: float = Field(
        default=1.0, ge=0, le=1, description="Share of the causes that a base made by the recipe has read of."
    )
    size: Literal["small", "base", "large"] = Field(
        default="base", description="Shape of a base that is made: 0.2, 0.8 or 2.0 million parameters."
    )
    seeds: list[int] | None = Field(default=None, description="Seeds of this condition; null: the study's.")
    arms: list[str] | None = Field(
        default=None, description="Arms compared under it; null: those of the run's evaluation.arms."
    )
    values: dict[str, Any] = Field(
        default={}, description="Dotted keys of the run that differ under it, put over the study's `values`."
    )

    @model_validator(mode="after")
    def _base_fits(self) -> Self:
        if self.base == "shipped" and (self.knowledge < 1 or self.generator != "main"):
            raise ValueError(
                "the shipped base has read everything about the main world: for other knowledge or the second world "
                "set base to 'recipe' or 'random'"
            )
        if self.base == "shipped" and self.size != "base":
            raise ValueError(
                f"the shipped base is of size base; for {self.size} set base to 'recipe' or 'random'"
            )
        return self


class StudySettings(Settings):
    """A study."""

    name: str = Field(
        pattern=NAME, description="Name of the study; worlds, bases and results are in <root>/<name>."
    )
    root: str = Field(default="runs", description="Folder of all runs, as storage.root of a run.")
    run: str = Field(description="YAML file of the run that is repeated.")
    values: dict[str, Any] = Field(
        default={}, description="Dotted keys of the run and their values, put over those of `run`."
    )
    seeds: list[int] = Field(
        min_length=1,
        description="Seeds; each is a log of its own and an order of samples, all with one base.",
    )
    users: int = Field(default=300, ge=20, description="Users of each log.")
    events: tuple[int, int] = Field(default=(20, 40), description="Fewest and most events of a user.")
    conversations: int = Field(default=1000, ge=10, description="Conversations of small talk of each kind.")
    pretraining_steps: int = Field(
        default=STEPS, ge=1, description="Optimizer steps for bases that are made by the recipe."
    )
    conditions: dict[str, Condition] = Field(
        default={"main": Condition()}, min_length=1, description="Conditions by name."
    )
    only: list[str] | None = Field(
        default=None, description="Conditions to run now, where several processes share the work; null: all."
    )
    reference: str = Field(
        default=REFERENCE, description="The model that all others are compared with, seed by seed."
    )
    examine: str | None = Field(
        default=None,
        description="Arm with B-Tuning on a selection at random. On its samples all measures of difficulty are held "
        "against the truth, and against what it learned about those that it did not select; null: none.",
    )
    examine_conditions: list[str] = Field(default=["main"], description="Conditions in which that is done.")

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds) or min(seeds) < 0:
            raise ValueError(f"each seed once and none below 0, got {seeds}")
        return seeds

    @model_validator(mode="after")
    def _known(self) -> Self:
        for key, names in (("examine_conditions", self.examine_conditions), ("only", self.only or [])):
            unknown = [name for name in names if name not in self.conditions]
            if unknown:
                raise ValueError(
                    f"{key}: there is no {', '.join(unknown)} among the conditions {', '.join(self.conditions)}"
                )
        return self


def study_run(study: StudySettings, condition: str, seed: int, files: dict[str, Any]) -> RunSettings:
    """The run of one condition and seed. files: dotted keys that name its log, texts and base.

    Raises ConfigError with every problem.
    """
    chosen = study.conditions[condition]
    values: dict[str, Any] = study.values | chosen.values
    values |= dict.fromkeys(SEEDED, seed) | files
    values |= {"name": f"{study.name}-{condition}-{seed}", "evaluation.truth.world": chosen.generator}
    if chosen.opaque:
        values["evaluation.truth.opaque_seed"] = seed
    if chosen.arms is not None:
        values["evaluation.arms"] = chosen.arms
    data = with_values(read_config(study.run, "run"), values)
    run = validate_settings(RunSettings, data, f"{study.run}, condition {condition}")
    if study.examine is not None:
        _check_neutral(run, study.examine)
    return run


def seeds_of(study: StudySettings, condition: str) -> list[int]:
    """The seeds under which a condition is run."""
    own = study.conditions[condition].seeds
    return study.seeds if own is None else own


def _check_neutral(run: RunSettings, arm: str) -> None:
    if arm not in run.all_arms:
        raise ConfigError(f"examine: there is no arm {arm}; known: {', '.join(run.all_arms)}")
    chosen = run.all_arms[arm]
    changed = with_changed_keys(run, chosen.values, f"arms.{arm}.values")
    if chosen.tuning != "ab_tuned" or changed.selection.within != "random":
        raise ConfigError(
            f"examine: {arm} must have B-Tuning on a selection at random (selection.within: random), or what it left "
            "out would differ from what it took by the measures themselves; use ab_random"
        )
