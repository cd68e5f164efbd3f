"""What a study is told: the run to repeat, its arms with their rates, and the cells: shots, knowledge and seeds."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from behaviorlm.config import Settings, validate_settings, with_values
from behaviorlm_lab.pretraining.recipe import STEPS
from behaviorlm_ray.console.config_files import read_config
from behaviorlm_ray.pipeline.arms import ArmSettings
from behaviorlm_ray.pipeline.settings import NAME, RunSettings

SEEDED = (
    "few_shot.seed",
    "a_tuning.seed",
    "one_stage.seed",
    "b_tuning.seed",
    "selection.seed",
    "difficulty.seed",
)
"""Keys of a run that get the cell's seed; the samples that are measured on are those of the log of that seed."""

RATES = ("one_stage.learning_rate", "a_tuning.learning_rate", "b_tuning.learning_rate")
"""Keys that an arm's rate is put into: all of its stages have the same."""

UNTUNED = "untuned"

SEARCHED = "_rate_"
"""Between the name of an arm and its rate, in millionths, where several are tried."""


class Shots(Settings):
    """How many samples the tail has, and what goes with that."""

    tail_samples: int | None = Field(description="few_shot.tail_samples of the run; null: all there are.")
    values: dict[str, Any] = Field(default={}, description="Dotted keys of the run that go with it.")
    arms: dict[str, dict[str, Any]] = Field(
        default={}, description="Dotted keys that an arm changes on top of its own, by the arm's name."
    )


class StudySettings(Settings):
    """A study."""

    name: str = Field(
        pattern=NAME, description="Name of the study; worlds, bases and runs are in <root>/<name>."
    )
    root: str = Field(default="runs", description="Folder of all runs, as storage.root of a run.")
    records: str | None = Field(
        default=None, description="Folder of the records, one for each cell; null: <root>/<name>/records."
    )
    run: str = Field(description="YAML file of the run that is repeated.")
    values: dict[str, Any] = Field(
        default={}, description="Dotted keys of the run and their values, put over those of `run`."
    )
    arms: dict[str, ArmSettings] = Field(
        min_length=1, description="Arms that are compared, beside the untuned base, by name."
    )
    shots: dict[str, Shots] = Field(min_length=1, description="Shots by the name that `k` calls them by.")
    k: list[str] = Field(min_length=1, description="Names of the shots to run.")
    knowledge: list[float] = Field(
        default=[1.0],
        min_length=1,
        description="Share of the causes that the base has read of: 1 is the shipped one, others are made.",
    )
    seeds: list[int] = Field(
        min_length=1,
        description="Seeds; each is a log, a draw of few shots and an order of samples of its own.",
    )
    search: list[float] = Field(
        default=[],
        description="Learning rates that every arm is tried with; validation chooses. Empty: that of the run.",
    )
    order: Literal["as_lived", "shuffled"] = Field(
        default="as_lived",
        description="shuffled: the events of each user, with their clock and place, in an order drawn at random. A "
        "control: there is no truth to hold against, and order is worth nothing.",
    )
    users: int = Field(default=600, ge=20, description="Users of each log.")
    events: tuple[int, int] = Field(default=(20, 40), description="Fewest and most events of a user.")
    conversations: int = Field(default=1000, ge=10, description="Conversations of small talk of each kind.")
    pretraining_steps: int = Field(
        default=STEPS, ge=1, description="Optimizer steps for bases that are made by the recipe."
    )

    @field_validator("k", mode="before")
    @classmethod
    def _as_names(cls, k: Any) -> Any:
        return [str(name) for name in k] if isinstance(k, list) else k

    @field_validator("shots", mode="before")
    @classmethod
    def _by_names(cls, shots: Any) -> Any:
        return {str(name): of for name, of in shots.items()} if isinstance(shots, dict) else shots

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds) or min(seeds) < 0:
            raise ValueError(f"each seed once and none below 0, got {seeds}")
        return seeds

    @field_validator("knowledge")
    @classmethod
    def _shares(cls, knowledge: list[float]) -> list[float]:
        if any(not 0 <= share <= 1 for share in knowledge):
            raise ValueError(f"shares are from 0 to 1, got {knowledge}")
        return knowledge

    @model_validator(mode="after")
    def _known(self) -> Self:
        unknown = [name for name in self.k if name not in self.shots]
        if unknown:
            raise ValueError(f"k: there is no {', '.join(unknown)} among the shots {', '.join(self.shots)}")
        for name, of in self.shots.items():
            strange = sorted(of.arms.keys() - self.arms.keys())
            if strange:
                raise ValueError(
                    f"shots.{name}: there is no {', '.join(strange)} among the arms {', '.join(self.arms)}"
                )
        return self


def study_run(study: StudySettings, cell: str, k: str, seed: int, files: dict[str, Any]) -> RunSettings:
    """The run of one cell. files: dotted keys that name its log, texts and base.

    Raises ConfigError with every problem.
    """
    shots = study.shots[k]
    arms = _arms(study, shots)
    values: dict[str, Any] = study.values | shots.values | dict.fromkeys(SEEDED, seed) | files
    values |= {
        "name": f"{study.name}-{cell}",
        "few_shot.tail_samples": shots.tail_samples,
        "arms": arms,
        "evaluation.arms": [UNTUNED, *arms],
    }
    data = with_values(read_config(study.run, "run"), values)
    return validate_settings(RunSettings, data, f"{study.run}, cell {cell}")


def _arms(study: StudySettings, shots: Shots) -> dict[str, Any]:
    """Every arm as it is, or at each of the rates that are tried, as keys of the run."""
    found = {}
    for name, arm in study.arms.items():
        values = arm.values | shots.arms.get(name, {})
        tried = {
            f"{name}{SEARCHED}{round(rate * 1e6)}": values | dict.fromkeys(RATES, rate)
            for rate in study.search
        }
        for called, own in (tried or {name: values}).items():
            found[called] = {"tuning": arm.tuning, "description": arm.description, "values": own}
    return found
