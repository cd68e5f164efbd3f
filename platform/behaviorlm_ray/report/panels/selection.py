"""The balanced subset: what was there of each behavior and what was taken."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from behaviorlm_ray.report.content import SelectedBehavior
from behaviorlm_ray.report.drawing import INKS, figure, labels, tooltip, values
from behaviorlm_ray.report.encodings import layer, names, number, series
from behaviorlm_ray.report.wording import count, measured, readable

INK_OF = {"available": INKS["line"], "taken, anchor": INKS["accent"], "taken, tail": INKS["tail"]}
LOWEST = 0.6
"""Where the logarithmic axis begins, so that a bar of one sample is seen."""
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
    shown = labels([behavior.behavior for behavior in ordered]) if is_named else [""] * len(ordered)
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
        for place, (behavior, label) in enumerate(zip(ordered, shown, strict=True))
    ]
    across, along = ("y", "x") if is_named else ("x", "y")
    place = names() if is_named else {"field": "order", "type": "ordinal", "title": None, "axis": None}
    logarithmic = {"type": "log", "domainMin": LOWEST, "nice": False}

    def bars(field: str, by: str, width: float) -> dict[str, Any]:
        amount = number(field, "samples", scale=logarithmic, format=",d", tickCount=4)
        encoding = {along: amount, f"{along}2": {"datum": LOWEST}, "color": series(by, INK_OF)}
        style: dict[str, Any] = {"height" if is_named else "width": {"band": width}}
        return layer("bar", encoding, **style)

    spec = {
        "width": 460,
        "height": {"step": 18} if is_named else 220,
        "data": values(rows),
        "encoding": {
            across: place,
            "tooltip": tooltip(name="behavior", of="samples taken", difficulty="mean difficulty"),
        },
        "layer": [bars("available", "all", 0.8), bars("taken", "series", 0.45 if is_named else 0.8)],
    }
    return figure(spec, "Samples available and taken for each behavior, the most frequent first")
