"""What a search is told: the run it varies, space, algorithm, scheduler, budget and objective; all checked before."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from behaviorlm.config import Settings, flattened, validate_settings, with_values
from behaviorlm.errors import ConfigError
from behaviorlm_ray.cluster.submission import check_storage_root
from behaviorlm_ray.console.config_files import read_config
from behaviorlm_ray.pipeline.arms import Tuning
from behaviorlm_ray.pipeline.settings import NAME, RunSettings, with_absolute_paths
from behaviorlm_ray.search.objective import ObjectiveSettings
from behaviorlm_ray.search.space import (
    COUNTABLE,
    AlgorithmSettings,
    Dimension,
    Parameters,
    combinations,
    grid_points,
    read_space,
    single_changes,
)

SAME_SAMPLES = "trials must be compared on the same validation samples"
SAME_TARGETS = "trials must be compared on the same targets"
NOT_SEARCHED = {
    "name": "it only names the run",
    "storage": "it only says where results are kept",
    "execution": "it changes where and how widely work runs, not what comes out",
    "tracking": "it only says where a run is told of",
    "split": SAME_SAMPLES,
    "few_shot": SAME_SAMPLES,
    "evaluation": SAME_SAMPLES,
    "arms": "trials are the run itself, not its arms",
    "events": SAME_TARGETS,
    "vocabulary": "trials must be compared on the same anchors and tail",
    "prompt.min_history": SAME_TARGETS,
}
WINNING_ARM: Tuning = "ab_tuned"
TRIED_OUT = 64
"""Random points of a space without end that are validated before anything starts."""
Limit = Annotated[float | None, Field(gt=0)]


class SchedulerSettings(Settings):
    """Which trials are tuned to the end.

    A rung is a share of a trial's own B-Tuning, each 1/reduction of the next (1/9 and 1/3 with 3 rungs and reduction
    3), rounded up to an optimizer step, after which it is measured on validation; the last rung is the whole of it.
    Schedule and learning rate are those of the whole throughout, so a rung is a state that the whole tuning passes
    through, and going on from it repeats no step.
    """

    name: Literal["none", "asha"] = Field(
        default="none",
        description="none: every trial is tuned whole. asha: every trial up to the first rung, then of each rung the "
        "best 1/reduction up to the next, as soon as they are known to be that.",
    )
    reduction: int = Field(default=3, ge=2, description="asha: 1/reduction of the trials of a rung go on.")
    rungs: int = Field(default=3, ge=2, description="asha: number of rungs, the whole tuning included.")

    @property
    def number_of_rungs(self) -> int:
        """1 without early stopping: the whole tuning."""
        return 1 if self.name == "none" else self.rungs

    def stop_step(self, rung: int, steps: int) -> int:
        """After how many of its `steps` a trial's B-Tuning is measured at a rung (from 0)."""
        if rung >= self.number_of_rungs - 1:
            return steps
        return max(1, math.ceil(steps / self.reduction ** (self.rungs - 1 - rung)))


class BudgetSettings(Settings):
    """When no further trial, or rung of one, is started. What runs by then is finished, but for `wall_seconds`.

    Stages that were there before the search count as if it had run them: so it ends alike wherever it is run.
    """

    trials: int | None = Field(
        default=None, ge=1, description="Trials; null: all points of a grid; random and optuna need a number."
    )
    tokens: Limit = Field(None, description="Tokens through a model in all stages together; null: no limit.")
    wall_seconds: Limit = Field(
        None,
        description="Seconds after which the search stops, trials in the middle of their work included: the same "
        "command goes on from their checkpoints, with this time again; null: no limit.",
    )

    @property
    def limits(self) -> dict[str, float]:
        """What is limited besides the number of trials: by it a search may end before all of them."""
        return self.model_dump(exclude={"trials"}, exclude_none=True)


def _or_name_alone(schema: dict[str, Any]) -> None:
    """In the schema for editors: a section, or only its name."""
    schema["anyOf"] = [{"$ref": schema.pop("$ref")}, {"type": "string"}]


class SearchSettings(Settings):
    """A search over one run's configuration."""

    name: str = Field(
        pattern=NAME,
        description="Name of the search; its results are in <root>/<name>, root being the run's storage.root.",
    )
    base: str | None = Field(
        default=None,
        description="YAML file of the run that is varied, local or s3://bucket/key; null: `run` holds all of it.",
    )
    run: dict[str, Any] = Field(
        default_factory=dict,
        description="Keys of the run (see behaviorlm run --help) for all trials, put over those of `base`.",
    )
    space: dict[str, Dimension] = Field(
        min_length=1,
        description="For each dotted key of the run, such as selection.balance or auxiliary.0.weight (0: the first "
        "source), what it may be: a list of values, or one of the keys below.",
    )
    algorithm: AlgorithmSettings = Field(
        default=AlgorithmSettings(),
        json_schema_extra=_or_name_alone,
        description="How points of the space are chosen; a name alone will do.",
    )
    scheduler: SchedulerSettings = Field(
        default=SchedulerSettings(),
        json_schema_extra=_or_name_alone,
        description="Which trials are tuned to the end; a name alone will do.",
    )
    budget: BudgetSettings = Field(default=BudgetSettings(), description="When to stop.")
    objective: ObjectiveSettings = Field(
        default=ObjectiveSettings(),
        json_schema_extra=_or_name_alone,
        description="What the winner has most of; a name alone will do.",
    )
    max_concurrent_trials: int = Field(
        default=1,
        ge=1,
        description="Trials that run at the same time. They take turns where the cluster has no room for all: a trial "
        "itself asks for no CPU or GPU, only its stages do (execution of the run).",
    )
    retries: int = Field(
        default=1,
        ge=0,
        description="How often a trial that failed is run again, from its checkpoints, before it counts as failed.",
    )
    retry_failed: bool = Field(
        default=False,
        description="Whether to run what an earlier call of this search recorded as failed, and what followed, again.",
    )
    evaluate_winner: bool = Field(
        default=True,
        description="Whether to run the winner's whole run, evaluation.arms on test included, after the search.",
    )

    @field_validator(
        "space", mode="before", json_schema_input_type=dict[str, Dimension | list[Any] | dict[str, Any]]
    )
    @classmethod
    def _dotted(cls, space: Any) -> Any:
        return read_space(space) if isinstance(space, Mapping) else space

    @field_validator("algorithm", "scheduler", "objective", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _searchable(self) -> Self:
        problems = [
            f"space.{key}: a search does not vary it, for {reason}"
            for key in self.space
            for refused, reason in NOT_SEARCHED.items()
            if key == refused or key.startswith(f"{refused}.")
        ]
        if self.name == "stages":
            problems.append("name: 'stages' is the folder of all stages; choose another name")
        if self.algorithm.name != "grid":
            if self.budget.trials is None:
                problems.append(f"budget.trials: algorithm {self.algorithm.name} needs a number of trials")
        elif combinations(self.space) > COUNTABLE:
            problems.append(
                f"space: a grid of {combinations(self.space):,} combinations, above {COUNTABLE:,}; give fewer values, "
                "or take algorithm random or optuna"
            )
        else:
            problems += [
                f"space.{key}: a grid needs values of a range: give them as a list"
                for key, dimension in self.space.items()
                if dimension.choice is None
            ]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def winner_name(self) -> str:
        """Name of the winner's run."""
        return f"{self.name}_winner"


def trial_settings(run: Mapping[str, Any], parameters: Mapping[str, Any]) -> RunSettings:
    """The run of one trial, its paths absolute. Raises ConfigError with all problems."""
    described = ", ".join(f"{key}={value!r}" for key, value in parameters.items())
    data = with_values(run, parameters)
    return with_absolute_paths(validate_settings(RunSettings, data, f"the trial with {described}"))


def winning_run(run: Mapping[str, Any], parameters: Parameters, name: str) -> RunSettings:
    """The run of the winner: the base run with its parameters, under a name of its own, A+B among its arms."""
    arms = list(dict.fromkeys([*run["evaluation"]["arms"], WINNING_ARM]))
    return trial_settings(with_values(run, {"name": name, "evaluation.arms": arms}), parameters)


def base_run(settings: SearchSettings) -> dict[str, Any]:
    """The run that all trials start from: `base` with `run` put over it, paths absolute, validated as a run.

    Raises ConfigError with every problem of the base, the objective and the budget; if there is none, of any value of
    the space; if those have none, of any trial (of a space without end: of many).
    """
    data = with_values(read_config(settings.base, "base"), flattened(settings.run))
    given = validate_settings(RunSettings, data, settings.base or "run")
    check_storage_root(given.storage.root)
    base = with_absolute_paths(given)
    if problems := list(_problems_with(settings, base)):
        raise ConfigError("\n".join(problems))
    run = base.model_dump(mode="json")
    for changes in (single_changes(settings.space), sure_trials(settings)):
        if found := dict.fromkeys(_problems_of(run, changes)):
            raise ConfigError("\n".join(["space: not every trial is a valid run", *found]))
    return run


def _problems_with(settings: SearchSettings, base: RunSettings) -> Iterator[str]:
    """What of a search does not go with its run, a line each."""
    for name in (settings.name, settings.winner_name):
        if name == base.name:
            yield f"name: {name!r} is the name of the run too; both write to <root>/<name>"
    arm = settings.objective.floor_arm
    if arm is not None and arm not in base.all_arms:
        yield f"objective.floor_arm: there is no arm {arm!r} in the run; known: {', '.join(base.all_arms)}"


def _problems_of(run: Mapping[str, Any], trials: Iterable[Parameters]) -> Iterator[str]:
    for parameters in trials:
        try:
            trial_settings(run, parameters)
        except ConfigError as error:
            yield str(error)


def sure_trials(settings: SearchSettings) -> list[Parameters]:
    """Trials known before the search begins: a grid's, else points drawn from the space for checks."""
    if settings.algorithm.name == "grid":
        return grid_points(settings.space)[: settings.budget.trials]
    from behaviorlm_ray.search.proposals import random_point  # Optuna takes a while to load

    return [random_point(settings.space, settings.algorithm.seed, number, 0) for number in range(TRIED_OUT)]
