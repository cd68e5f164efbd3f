"""The report of a search as one HTML page that opens offline, from its summary."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from markupsafe import Markup

from behaviorlm_ray.report.document import filled
from behaviorlm_ray.report.inline_svg import INKS, drawing, inline
from behaviorlm_ray.search.findings import WINNER
from behaviorlm_ray.search.objective import ANCHOR, METRICS, TAIL
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
    winner, floor = summary["winner"], summary["objective"]["floor_value"]
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
        trials_plot=_trials_plot(summary["trials"], floor, winner and winner["trial"]),
        configuration=yaml.safe_dump(
            settings.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True
        ),
    )


def _trials_plot(trials: Sequence[Mapping[str, Any]], floor: float | None, best: int | None) -> Markup | None:
    """Trials by anchor accuracy (x) and tail macro recall (y); stopped ones faint, the winner filled."""
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
        if floor is not None:
            axes.axvline(floor, color=INKS["muted"], linewidth=1, linestyle=(0, (4, 3)))
        return inline(figure, "trials", "Trials by anchor accuracy and tail macro recall on validation")
