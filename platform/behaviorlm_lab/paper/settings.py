"""What the command `paper` is told: the run that exhibits share, and a file for each exhibit with the runs it needs."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from behaviorlm.config import Settings, read_written, validate_settings, with_values
from behaviorlm.errors import ConfigError
from behaviorlm_lab.pretraining.recipe import SIZES, STEPS
from behaviorlm_ray.console.config_files import read_config
from behaviorlm_ray.pipeline.arms import ArmSettings
from behaviorlm_ray.pipeline.settings import NAME, RunSettings

Kind = Literal[
    "distribution",
    "map",
    "accuracy",
    "framework",
    "lines",
    "data",
    "main",
    "ablations",
    "sensitivity",
    "behaviors",
    "cost",
]
NON_LLM = "non_llm"
"""Among the methods of an exhibit: the counting that validation prefers."""
VARIED = "varied_"
"""Begins the names of the arms that `vary` makes."""


class WorldSettings(Settings):
    """The synthetic log that is made for the runs."""

    users: int = Field(default=360, ge=20, description="Users of the log.")
    seed: int = Field(default=0, ge=0, description="Seed of log and texts.")
    events: tuple[int, int] = Field(default=(20, 40), description="Fewest and most events of a user.")
    conversations: int = Field(default=1000, ge=10, description="Conversations of small talk of each kind.")


class ExhibitRun(Settings):
    """One run that an exhibit needs: that of the paper, with some keys changed."""

    values: dict[str, Any] = Field(default={}, description="Dotted keys of the run and their values.")
    base_size: str | None = Field(
        default=None,
        description=f"Another base of the world, made by the recipe: {', '.join(SIZES)}. null: model.base.",
    )
    at: dict[str, str] = Field(
        default={}, description="Where it stands in the exhibit, by axis, such as {shots: few, size: small}."
    )

    @model_validator(mode="after")
    def _known_size(self) -> Self:
        if self.base_size is not None and self.base_size not in SIZES:
            raise ValueError(f"base_size: there is no {self.base_size!r}; known: {', '.join(SIZES)}")
        return self


class ExhibitSettings(Settings):
    """One exhibit: what it shows, of which methods, and the runs it needs."""

    shows: Kind = Field(description="The function that makes it.")
    title: str = Field(description="What it is called.")
    manner: str | None = Field(default=None, description="The figure or table of the paper that it is like.")
    rule: Literal["preferred", "plain"] = Field(
        default="preferred",
        description="How predictions are decided: by the rule that validation prefers for each method, or plainly.",
    )
    methods: dict[str, str] = Field(
        default={},
        description=f"What is shown of each run and how it is called, by arm, baseline or mixture; {NON_LLM}: the best "
        "counting on validation. Empty: all.",
    )
    along: str | None = Field(default=None, description="For lines: the axis of `at` along the bottom.")
    arms: dict[str, ArmSettings] = Field(default={}, description="Arms that its runs have beside their own.")
    vary: dict[str, list[Any]] = Field(
        default={},
        description="For sensitivity: dotted keys and the values that A+B is tuned with, each alone.",
    )
    on_request: bool = Field(
        default=False, description="Whether it is made only where `only` names it: what takes hours."
    )
    runs: dict[str, ExhibitRun] = Field(
        default={"main": ExhibitRun()},
        min_length=1,
        description="The runs by name. Exhibits share those of the same name, which must then be the same; main is the "
        "paper's run as it is.",
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.shows == "lines" and (
            self.along is None or any(self.along not in run.at for run in self.runs.values())
        ):
            raise ValueError("along: lines need an axis that every run says its place on (runs.NAME.at)")
        if self.shows == "lines" and len({axis for run in self.runs.values() for axis in run.at}) > 2:
            raise ValueError(
                "runs: lines have room for one axis beside the one along which they go (runs.NAME.at)"
            )
        if (self.shows == "sensitivity") != bool(self.vary):
            raise ValueError("vary: sensitivity needs keys to vary, and nothing else does")
        if len(self.runs) > 1 and self.shows not in ("lines", "data"):
            raise ValueError(f"runs: {self.shows} is made of one run, not of {', '.join(self.runs)}")
        return self

    @property
    def own_arms(self) -> dict[str, ArmSettings]:
        """Arms that it adds to its runs, those that vary a key among them."""
        varied = {
            f"{VARIED}{number}": ArmSettings(
                tuning="ab_tuned", description=f"{key}: {value}", values={key: value}
            )
            for number, (key, value) in enumerate(
                (key, value) for key, values in self.vary.items() for value in values
            )
        }
        return self.arms | varied


class PaperSettings(Settings):
    """All exhibits and what they share."""

    name: str = Field(
        pattern=NAME, description="Name; log, bases and exhibits are in <root>/<name>, its runs beside it."
    )
    root: str = Field(default="runs", description="Folder of all runs, as storage.root of a run.")
    folder: str | None = Field(
        default=None, description="Where the exhibits are written; null: <root>/<name>/exhibits."
    )
    run: str = Field(description="YAML file of the run that exhibits share.")
    values: dict[str, Any] = Field(
        default={}, description="Dotted keys of the run and their values, put over those of `run`."
    )
    exhibits: str = Field(description="Folder of the exhibits' files, a YAML for each.")
    only: list[str] = Field(
        default=[], description="Names of the exhibits to make; empty: all but those on request."
    )
    run_missing: bool = Field(
        default=True,
        description="Whether runs that are not finished are run; false: only what is there is drawn.",
    )
    world: WorldSettings | None = Field(
        default=WorldSettings(), description="The synthetic log that is made; null: the log that `run` names."
    )
    pretraining_steps: int = Field(
        default=STEPS, ge=1, description="Optimizer steps for bases of another size, by the recipe."
    )


def exhibits_of(paper: PaperSettings) -> dict[str, ExhibitSettings]:
    """The exhibits to make by name, in the order of their names. Raises ConfigError as `every_exhibit` does, and for
    names that are none.
    """
    every = every_exhibit(paper)
    unknown = [name for name in paper.only if name not in every]
    if unknown:
        raise ConfigError(f"only: there is no {', '.join(unknown)} among the exhibits {', '.join(every)}")
    return {
        name: exhibit
        for name, exhibit in every.items()
        if (name in paper.only if paper.only else not exhibit.on_request)
    }


def every_exhibit(paper: PaperSettings) -> dict[str, ExhibitSettings]:
    """All exhibits by name, in the order of their names. Raises ConfigError with the problems of all files."""
    folder = Path(paper.exhibits)
    files = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    if not files:
        raise ConfigError(f"exhibits: {folder} has no *.yaml; name the folder of the exhibits' files")
    found, problems = {}, []
    for name, path in files.items():
        try:
            found[name] = validate_settings(ExhibitSettings, read_written(path).values, str(path))
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))
    return found


def run_settings(
    paper: PaperSettings, exhibit: ExhibitSettings, name: str, files: dict[str, Any]
) -> RunSettings:
    """The run of an exhibit. files: dotted keys that name its log, texts and base.

    Raises ConfigError with every problem.
    """
    run, arms = exhibit.runs[name], exhibit.own_arms
    values = {"storage.root": paper.root} | paper.values | files | run.values
    data = with_values(read_config(paper.run, "run"), values | {"name": f"{paper.name}-{name}"})
    own = {arm: settings.model_dump(mode="json") for arm, settings in arms.items()}
    if own:
        data["arms"] = data.get("arms", {}) | own
        evaluation = data.setdefault("evaluation", {})
        listed = evaluation.get("arms", RunSettings.model_fields["evaluation"].default.arms)
        evaluation["arms"] = [*listed, *(arm for arm in own if arm not in listed)]
    return validate_settings(RunSettings, data, f"{paper.run}, run {name}")
