"""The report of a search as one HTML page that opens offline, from its summary."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from markupsafe import Markup
from matplotlib.ticker import PercentFormatter

from behaviorlm_ray.report.document import filled
from behaviorlm_ray.report.inline_svg import INKS, drawing, inline
from behaviorlm_ray.report.wording import readable
from behaviorlm_ray.search.findings import WINNER
from behaviorlm_ray.search.objective import ANCHOR, MEAN, METRICS, TAIL
from behaviorlm_ray.search.proposals import parameter_importance
from behaviorlm_ray.search.settings import SearchSettings
from behaviorlm_ray.storage import Location, write_replacing

REPORT = "report.html"
WIDTH = 480


def write_search_report(settings: SearchSettings, summary: Mapping[str, Any], folder: Location) -> Location:
    """Write report.html from what `write_summary` returned. Returns its path. Raises StorageError."""
    path = folder / REPORT
    write_replacing(path, render_search_report(settings, summary, folder).encode())
    return path


def render_search_report(settings: SearchSettings, summary: Mapping[str, Any], folder: Location) -> str:
    """The page."""
    metric = settings.objective.compared_by
    compared = compared_trials(summary["trials"], metric)
    winner, floor, named = summary["winner"], summary["objective"]["floor_value"], metric.replace("_", " ")
    return filled(
        "behaviorlm_ray.search",
        "search.html",
        settings=settings,
        summary=summary,
        # a trial that failed has no metrics; the table shows dashes
        trials=[
            {**trial, "metrics": dict.fromkeys(METRICS) | trial["metrics"]} for trial in summary["trials"]
        ],
        winner=winner and {"test": None} | winner,
        winner_config=folder / WINNER,
        floor=floor,
        front_plot=_front_plot(summary["trials"], summary["pareto"], floor, winner and winner["trial"]),
        importance_plot=_importance_plot(parameter_importance(settings.space, compared)),
        slices=_slices(settings, compared, named),
        metric=named,
        configuration=yaml.safe_dump(
            settings.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True
        ),
    )


def compared_trials(
    trials: Sequence[Mapping[str, Any]], metric: str = MEAN
) -> list[tuple[dict[str, Any], float]]:
    """Parameters and metric of every trial at its first rung: later ones hold only those that were good there."""
    return [
        (trial["parameters"], trial["rungs"][0]["metrics"][metric])
        for trial in trials
        if trial["rungs"] and trial["rungs"][0]["metrics"][metric] is not None
    ]


def _front_plot(
    trials: Sequence[Mapping[str, Any]], front: Sequence[int], floor: float | None, best: int | None
) -> Markup | None:
    """Trials by anchor accuracy (x) and tail macro recall (y); front joined, stopped ones faint, winner filled."""
    measured = {each["trial"]: (each["metrics"].get(ANCHOR), each["metrics"].get(TAIL)) for each in trials}
    points = {trial: point for trial, point in measured.items() if None not in point}
    if not points:
        return None
    whole = {trial["trial"] for trial in trials if trial["status"] == "finished"}
    with drawing(WIDTH, 380) as figure:
        axes = figure.add_subplot(xlabel="anchor accuracy", ylabel="tail macro recall")
        for trial, (x, y) in points.items():
            color, alpha = (INKS["tuned"], 1.0) if trial in whole else (INKS["muted"], 0.5)
            fill = color if trial == best else "none"
            axes.plot([x], [y], "o", markersize=7, color=color, alpha=alpha, markerfacecolor=fill)
            axes.annotate(str(trial + 1), (x, y), (5, 4), textcoords="offset points", fontsize=9, alpha=alpha)
        on_front = sorted(points[trial] for trial in front if trial in points)
        if len(on_front) > 1:
            xs, ys = zip(*on_front, strict=True)
            axes.plot(xs, ys, color=INKS["tail"], linewidth=1.4, zorder=0)
        if floor is not None:
            axes.axvline(floor, color=INKS["muted"], linewidth=1, linestyle=(0, (4, 3)))
        return inline(figure, "front", "Trials by anchor accuracy and tail macro recall on validation")


def _importance_plot(importance: Mapping[str, float]) -> Markup | None:
    """A bar for each key."""
    if not importance:
        return None
    names, shares = zip(*reversed(list(importance.items())), strict=True)
    with drawing(WIDTH, 60 + 34 * len(names)) as figure:
        axes = figure.add_subplot(xlim=(0, 1))
        axes.barh([readable(name) for name in names], shares, color=INKS["series-1"], height=0.6)
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(visible=False, axis="y")
        return inline(figure, "importance", "Share of the objective's variance that each key explains")


def _slices(
    settings: SearchSettings, compared: Sequence[tuple[dict[str, Any], float]], metric: str
) -> dict[str, Markup]:
    """A metric against each key. Values that are no numbers stand side by side by their text."""
    plots = {}
    for number, (key, dimension) in enumerate(settings.space.items()):
        points = [(parameters[key], value) for parameters, value in compared if key in parameters]
        if not points:
            continue
        is_number = all(isinstance(at, int | float) and not isinstance(at, bool) for at, _ in points)
        shown = [at if is_number else readable(at) for at, _ in points]
        with drawing(300, 230) as figure:
            axes = figure.add_subplot(
                xscale="log" if is_number and dimension.log_uniform else None, ylabel=metric
            )
            axes.plot(
                shown,
                [value for _, value in points],
                "o",
                markersize=6,
                color=INKS["series-1"],
                markerfacecolor="none",
            )
            plots[key] = inline(figure, f"slice-{number}", f"{metric} against {readable(key)}")
    return plots
