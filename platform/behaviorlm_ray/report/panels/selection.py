"""The balanced subset: what was there of each behavior and what was taken."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from behaviorlm_ray.report.content import SelectedBehavior
from behaviorlm_ray.report.drawing import INKS, colors, figure, labels, tooltip, values
from behaviorlm_ray.report.wording import count, measured, readable

NAMED = 60
"""Up to here the plot names every behavior."""


def by_frequency(behaviors: Sequence[SelectedBehavior]) -> list[SelectedBehavior]:
    """The most frequent first, then by name."""
    return sorted(behaviors, key=lambda behavior: (-behavior.available, behavior.behavior))


def selection_figure(behaviors: Sequence[SelectedBehavior]) -> Markup | None:
    """Samples available and taken by behavior, on a logarithmic axis; most frequent first."""
    ordered = [behavior for behavior in by_frequency(behaviors) if behavior.available > 0]
    if not ordered:
        return None
    is_named = len(ordered) <= NAMED
    names = labels([behavior.behavior for behavior in ordered]) if is_named else [""] * len(ordered)
    rows = [
        {
            "label": label,
            "name": readable(behavior.behavior),
            "order": place,
            "series": f"taken, {'anchor' if behavior.is_anchor else 'tail'}",
            "all": "available",
            "available": behavior.available,
            "taken": max(behavior.quota, 0) or None,
            "of": f"{count(behavior.quota)} of {count(behavior.available)}",
            "difficulty": measured(behavior.mean_difficulty),
        }
        for place, (behavior, label) in enumerate(zip(ordered, names, strict=True))
    ]
    inks = {"available": INKS["line"], "taken, anchor": INKS["accent"], "taken, tail": INKS["tail"]}
    along, across = ("x", "y") if is_named else ("y", "x")
    along_names: dict[str, Any] = {"field": "order", "type": "ordinal", "title": None, "axis": None}
    if is_named:
        axis = {"grid": False, "ticks": False, "domain": False, "labelColor": INKS["ink"], "labelLimit": 200}
        along_names = {
            "field": "label",
            "type": "nominal",
            "sort": {"field": "order"},
            "title": None,
            "axis": axis,
        }
    told = tooltip(name="behavior", of="samples taken", difficulty="mean difficulty")

    def bars(field: str, series: str, width: float) -> dict[str, Any]:
        number = {
            "field": field,
            "type": "quantitative",
            "title": "samples",
            "scale": {"type": "log", "domainMin": 0.6, "nice": False},
            "axis": {"format": ",d", "tickCount": 4},
        }
        return {
            "mark": {
                "type": "bar",
                **({"height": {"band": width}} if is_named else {"width": {"band": width}}),
            },
            "encoding": {
                along: number,
                f"{along}2": {"datum": 0.6},
                "color": {
                    "field": series,
                    "type": "nominal",
                    "scale": colors(inks),
                    "sort": None,
                    "legend": {"columns": 3},
                },
                "tooltip": told,
            },
        }

    size: dict[str, Any] = {"width": 460, "height": {"step": 18} if is_named else 220}
    layers = [bars("available", "all", 0.8), bars("taken", "series", 0.45 if is_named else 0.8)]
    spec = {**size, "data": values(rows), "encoding": {across: along_names}, "layer": layers}
    return figure(spec, "Samples available and taken for each behavior, the most frequent first")
