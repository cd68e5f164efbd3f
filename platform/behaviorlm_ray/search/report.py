"""The report of a search as one HTML page that opens offline, from its summary."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from markupsafe import Markup

from behaviorlm_ray.report.document import filled
from behaviorlm_ray.report.drawing import INKS, still
from behaviorlm_ray.report.encodings import dashed, layer, number, series
from behaviorlm_ray.search.findings import WINNER
from behaviorlm_ray.search.objective import ANCHOR, METRICS, TAIL
from behaviorlm_ray.search.settings import SearchSettings
from behaviorlm_ray.storage import Location, write_replacing

REPORT = "report.html"


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
    rows = [
        {
            "x": x,
            "y": y,
            "number": str(each["trial"] + 1),
            "series": _series(each, best),
        }
        for each in trials
        for x, y in [(each["metrics"].get(ANCHOR), each["metrics"].get(TAIL))]
        if x is not None and y is not None
    ]
    if not rows:
        return None
    padded = {"nice": False, "padding": 16}
    fill = series(
        "series", {"winner": INKS["accent"], "whole": "transparent", "stopped": "transparent"}, legend=False
    )
    stroke = series(
        "series", {"winner": INKS["accent"], "whole": INKS["accent"], "stopped": INKS["quiet"]}, legend=False
    )
    layers = [
        layer("point", {"fill": fill, "stroke": stroke}, rows, size=70, strokeWidth=1.5, opacity=1),
        layer("text", {"text": {"field": "number"}}, rows, dx=7, dy=-7, align="left", fontSize=10),
    ]
    if floor is not None:
        layers.append(dashed("rule", {"y": None}, [{"x": floor}]))
    place = {
        "x": number("x", "anchor accuracy", scale=padded),
        "y": number("y", "tail macro recall", scale=padded),
    }
    spec = {"width": 420, "height": 330, "encoding": place, "layer": layers}
    return still(spec, "Trials by anchor accuracy and tail macro recall on validation")


def _series(trial: Mapping[str, Any], best: int | None) -> str:
    if trial["trial"] == best:
        return "winner"
    return "whole" if trial["status"] == "finished" else "stopped"
