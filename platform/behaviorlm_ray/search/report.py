"""The report of a search as one HTML page that opens offline, from its summary."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import yaml
from markupsafe import Markup

from behaviorlm_ray.report.document import filled
from behaviorlm_ray.report.drawing import INKS, colors, still, values
from behaviorlm_ray.report.wording import readable
from behaviorlm_ray.search.findings import WINNER
from behaviorlm_ray.search.objective import ANCHOR, MEAN, METRICS, TAIL
from behaviorlm_ray.search.proposals import parameter_importance
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
    rows = [
        {"x": x, "y": y, "number": str(trial + 1), "series": _series(trial, best, whole)}
        for trial, (x, y) in points.items()
    ]
    on_front = [{"x": x, "y": y} for x, y in sorted(points[trial] for trial in front if trial in points)]
    place = {"x": _number("x", "anchor accuracy"), "y": _number("y", "tail macro recall")}
    faint = {"condition": {"test": "datum.series === 'stopped'", "value": 0.5}, "value": 1}
    fills = {"winner": INKS["accent"], "whole": "transparent", "stopped": "transparent"}
    strokes = {"winner": INKS["accent"], "whole": INKS["accent"], "stopped": INKS["muted"]}
    series = {"field": "series", "type": "nominal", "legend": None}
    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "point", "size": 70, "strokeWidth": 1.5},
            "encoding": {
                "fill": {**series, "scale": colors(fills)},
                "stroke": {**series, "scale": colors(strokes)},
                "opacity": faint,
            },
        },
        {
            "mark": {"type": "text", "dx": 7, "dy": -7, "align": "left", "fontSize": 10},
            "encoding": {"text": {"field": "number"}, "opacity": faint},
        },
    ]
    if len(on_front) > 1:
        line = {"type": "line", "color": INKS["tail"], "strokeWidth": 1.4}
        layers.insert(0, {"data": values(on_front), "mark": line})
    if floor is not None:
        rule = {"type": "rule", "strokeDash": [4, 3], "color": INKS["muted"]}
        layers.insert(0, {"data": values([{"x": floor}]), "mark": rule, "encoding": {"y": None}})
    spec = {"width": 420, "height": 330, "data": values(rows), "encoding": place, "layer": layers}
    return still(spec, "Trials by anchor accuracy and tail macro recall on validation")


def _series(trial: int, best: int | None, whole: Collection[int]) -> str:
    return "winner" if trial == best else "whole" if trial in whole else "stopped"


def _importance_plot(importance: Mapping[str, float]) -> Markup | None:
    """A bar for each key."""
    if not importance:
        return None
    rows = [
        {"key": readable(name), "order": order, "share": share}
        for order, (name, share) in enumerate(importance.items())
    ]
    axis = {"grid": False, "ticks": False, "domain": False, "labelColor": INKS["ink"], "labelLimit": 260}
    spec = {
        "width": 320,
        "height": {"step": 28},
        "data": values(rows),
        "mark": {"type": "bar", "color": INKS["accent"], "height": {"band": 0.6}},
        "encoding": {
            "y": {"field": "key", "type": "nominal", "sort": {"field": "order"}, "title": None, "axis": axis},
            "x": {
                "field": "share",
                "type": "quantitative",
                "title": None,
                "scale": {"domain": [0, 1]},
                "axis": {"format": ".0%", "tickCount": 5},
            },
        },
    }
    return still(spec, "Share of the objective's variance that each key explains")


def _slices(
    settings: SearchSettings, compared: Sequence[tuple[dict[str, Any], float]], metric: str
) -> dict[str, Markup]:
    """A metric against each key. Values that are no numbers stand side by side by their text."""
    plots = {}
    for key, dimension in settings.space.items():
        points = [(parameters[key], value) for parameters, value in compared if key in parameters]
        if not points:
            continue
        is_number = all(isinstance(at, int | float) and not isinstance(at, bool) for at, _ in points)
        rows = [{"x": at if is_number else readable(at), "y": value} for at, value in points]
        along: dict[str, Any] = {"field": "x", "type": "nominal", "title": None, "axis": {"labelAngle": 0}}
        if is_number:
            along = _number("x", None)
            if dimension.log_uniform:
                along["scale"] = {"type": "log", "nice": False}
                along["axis"] = {"tickCount": 3, "format": "~g"}
        spec = {
            "width": 240,
            "height": 180,
            "data": values(rows),
            "mark": {"type": "point", "size": 50, "color": INKS["accent"]},
            "encoding": {"x": along, "y": _number("y", metric)},
        }
        plots[key] = still(spec, f"{metric} against {readable(key)}")
    return plots


def _number(field: str, title: str | None) -> dict[str, Any]:
    scale = {"zero": False, "nice": True}
    return {"field": field, "type": "quantitative", "title": title, "scale": scale, "axis": {"tickCount": 5}}
