"""The report of a search as one HTML page that opens offline, from its summary."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from behaviorlm_ray.report import wording
from behaviorlm_ray.search.objective import MEAN, METRICS, compared_by
from behaviorlm_ray.search.plots import front_plot, importance_plot, slice_plot
from behaviorlm_ray.search.proposals import parameter_importance
from behaviorlm_ray.search.settings import SearchSettings
from behaviorlm_ray.search.summary import WINNER
from behaviorlm_ray.storage import Location, write_replacing

REPORT = "report.html"


def write_search_report(settings: SearchSettings, summary: Mapping[str, Any], folder: Location) -> Location:
    """Write report.html from what `write_summary` returned. Returns its path. Raises StorageError."""
    path = folder / REPORT
    write_replacing(path, render_search_report(settings, summary, folder).encode())
    return path


def render_search_report(settings: SearchSettings, summary: Mapping[str, Any], folder: Location) -> str:
    """The page."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        measured=wording.measured, count=wording.count, percent=wording.percent, readable=wording.readable
    )
    template = environment.from_string(
        (files("behaviorlm_ray.search") / "search.html").read_text(encoding="utf-8")
    )
    style = Markup((files("behaviorlm_ray.report") / "style.css").read_text(encoding="utf-8"))  # our own file
    metric = compared_by(settings.objective)
    compared = compared_trials(summary["trials"], metric)
    winner, floor = summary["winner"], summary["objective"]["floor_value"]
    return template.render(
        settings=settings,
        style=style,
        summary=summary,
        # a trial that failed has no metrics; the table shows dashes
        trials=[
            {**trial, "metrics": dict.fromkeys(METRICS) | trial["metrics"]} for trial in summary["trials"]
        ],
        winner=winner and {"test": None} | winner,
        winner_config=folder / WINNER,
        floor=floor,
        front_plot=front_plot(summary["trials"], summary["pareto"], floor, winner and winner["trial"]),
        importance_plot=importance_plot(parameter_importance(settings.space, compared)),
        slices=_slices(settings, compared, metric.replace("_", " ")),
        metric=metric.replace("_", " "),
        compared_at="tuned whole"
        if settings.scheduler.name == "none"
        else "at the first rung, where all were measured alike",
        configuration=yaml.safe_dump(
            settings.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True
        ),
    ).lstrip()


def compared_trials(
    trials: Sequence[Mapping[str, Any]], metric: str = MEAN
) -> list[tuple[dict[str, Any], float]]:
    """Parameters and metric of every trial at its first rung: later ones hold only those that were good there."""
    return [
        (trial["parameters"], trial["rungs"][0]["metrics"][metric])
        for trial in trials
        if trial["rungs"] and trial["rungs"][0]["metrics"][metric] is not None
    ]


def _slices(
    settings: SearchSettings, compared: Sequence[tuple[dict[str, Any], float]], metric: str
) -> list[tuple[str, Markup]]:
    plots = []
    for number, (key, dimension) in enumerate(settings.space.items()):
        points = [(parameters[key], value) for parameters, value in compared if key in parameters]
        if points:
            plots.append((key, slice_plot(f"slice-{number}", key, points, metric, dimension.is_log)))
    return plots
