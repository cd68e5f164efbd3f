"""What a search is told: the run it varies, the grid of values, the objective."""

import itertools
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from behaviorlm.config import Settings, read_settings, validate_settings, with_values
from behaviorlm.errors import ConfigError
from behaviorlm_ray.cluster import check_local_root
from behaviorlm_ray.settings import RunSettings, with_absolute_paths

Parameters = dict[str, Any]
"""Dotted keys of a run and the values that a trial gives them."""

NOT_SEARCHED = {
    "name": "it only names the run",
    "storage": "it only says where results are kept",
    "execution": "it changes where and how widely work runs, not what comes out",
    "split": "trials must be compared on the same validation samples",
    "evaluation": "trials must be compared on the same validation samples",
}


class SearchSettings(Settings):
    """A search over one run's configuration."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Name of the search; its results are in <root>/<name>, root being the run's storage.root.",
    )
    base: str | None = Field(
        default=None, description="YAML file of the run that is varied; null: `run` holds all of it."
    )
    run: dict[str, Any] = Field(
        default_factory=dict,
        description="Keys of the run (see jobs.run --help) for all trials, put over those of `base`.",
    )
    space: dict[str, list[Any]] = Field(
        min_length=1,
        description="Values to try for each dotted key of the run, such as selection.balance or auxiliary.0.weight "
        "(0: the first source); every combination is a trial.",
    )
    objective: Literal["mean_of_anchor_accuracy_and_tail_macro_recall"] = Field(
        default="mean_of_anchor_accuracy_and_tail_macro_recall",
        description="What the winner has most of, on validation samples.",
    )
    max_concurrent_trials: int = Field(default=1, ge=1, description="Trials that run at the same time.")

    @field_validator("space", mode="before")
    @classmethod
    def _dotted(cls, space: Any) -> Any:
        return flattened(space) if isinstance(space, Mapping) else space

    @model_validator(mode="after")
    def _searchable(self) -> Self:
        problems = [
            f"space.{key}: a search does not vary it, for {NOT_SEARCHED[key.partition('.')[0]]}"
            for key in self.space
            if key.partition(".")[0] in NOT_SEARCHED
        ]
        if self.name == "stages":
            problems.append("name: 'stages' is the folder of all stages; choose another name")
        for key, values in self.space.items():
            if not values:
                problems.append(f"space.{key}: give at least one value")
            elif any(value in values[:index] for index, value in enumerate(values)):
                problems.append(f"space.{key}: each value may stand there once, got {values}")
        if problems:
            raise ValueError("; ".join(problems))
        return self


def flattened(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`; of two that name the same key, the later one."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def trial_parameters(space: Mapping[str, list[Any]]) -> list[Parameters]:
    """Every combination of the grid; the last key varies fastest."""
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]


def trial_settings(run: Mapping[str, Any], parameters: Mapping[str, Any]) -> RunSettings:
    """The run of one trial, its paths absolute. Raises ConfigError with all problems."""
    described = ", ".join(f"{key}={value!r}" for key, value in parameters.items())
    data = with_values(run, parameters)
    return with_absolute_paths(validate_settings(RunSettings, data, f"the trial with {described}"))


def base_run(settings: SearchSettings) -> dict[str, Any]:
    """The run that all trials start from: `base` with `run` put over it, paths absolute, validated as a run.

    Raises ConfigError with every problem of the base; if it has none, of any value of the space; if those have none, of
    any trial.
    """
    data = with_values(read_settings(settings.base), flattened(settings.run))
    source = settings.base or "run"
    given = validate_settings(RunSettings, data, source)
    check_local_root(given.storage.root)
    base = with_absolute_paths(given)
    if base.name == settings.name:
        raise ConfigError(f"name: {settings.name!r} is the name of the run too; both write to <root>/<name>")
    run = base.model_dump(mode="json")
    single = [{key: value} for key, values in settings.space.items() for value in values]
    for changes in (single, trial_parameters(settings.space)):
        problems = [problem for parameters in changes if (problem := _problem(run, parameters))]
        if problems:
            raise ConfigError("\n".join(["space: not every trial is a valid run", *problems]))
    return run


def _problem(run: Mapping[str, Any], parameters: Parameters) -> str | None:
    try:
        trial_settings(run, parameters)
    except ConfigError as error:
        return str(error)
    return None
