"""The plots of a look at a log, drawn as those of the report."""

from typing import Any

import numpy as np
from markupsafe import Markup

from behaviorlm.events.facts import LogFacts
from behaviorlm.inspection.mapped import Mapped, events_over_time
from behaviorlm_ray.report.drawing import INKS, labels, still, values
from behaviorlm_ray.report.encodings import classes, dashed, dots, layer, names, number, series

WIDTH = 400
MOST_NAMED = 45
ANCHOR_SHARE = 0.01
LOWEST = 0.8
"""Of the smallest share, where a logarithmic axis begins, so that the shortest bar is seen."""


def behaviors_plot(facts: LogFacts, threshold: float = ANCHOR_SHARE) -> Markup | None:
    """The share of each behavior, most frequent first, on a logarithmic axis with the cut into anchors and tail."""
    ordered = sorted(facts.behaviors.items(), key=lambda item: (-item[1], item[0]))
    if not ordered:
        return None
    rows = [
        {
            "label": label,
            "place": place,
            "share": count / facts.usable,
            "group": "anchor" if count / facts.usable > threshold else "tail",
        }
        for place, ((_, count), label) in enumerate(
            zip(ordered, labels([name for name, _ in ordered]), strict=True), 1
        )
    ]
    lowest = LOWEST * min(ordered[-1][1] / facts.usable, threshold)
    scale = {"type": "log", "domainMin": lowest, "nice": False}
    amount = number("share", "share of the events", scale=scale, format="~%")
    group = {"color": series("group", {"anchor": INKS["anchor"], "tail": INKS["tail"]}, legend=False)}
    cut = [{"at": threshold}]
    at = {"field": "at", "type": "quantitative"}
    if len(ordered) <= MOST_NAMED:
        bars = {"y": names(order="place"), "x": amount, "x2": {"datum": lowest}, **group}
        layers = [layer("bar", bars, height={"band": 0.7}), dashed("rule", {"x": at}, cut)]
        height: Any = {"step": 18}
    else:
        ranks = number("place", "behaviors, most frequent first", scale={"type": "log"}, format=",d")
        layers = [dots({"x": ranks, "y": amount, **group}, size=14), dashed("rule", {"y": at}, cut)]
        height = 240
    spec = {"width": WIDTH, "height": height, "data": values(rows), "layer": layers}
    return still(spec, "Share of each behavior, with the cut into anchors and tail")


def users_plot(facts: LogFacts) -> Markup | None:
    """How many users have how many events, in classes that double."""
    if not facts.sizes:
        return None
    sizes = np.array(sorted(facts.sizes))
    users = np.array([facts.sizes[size] for size in sizes.tolist()])
    counts = np.bincount(np.floor(np.log2(sizes)).astype(int), weights=users)
    rows = [
        {"class": _class_name(number), "order": number, "users": count}
        for number, count in enumerate(counts.tolist())
    ]
    along = classes("events of a user", "class", labelAngle=-45 if len(rows) > 8 else 0)
    return still(_bars(rows, along, "users"), "How many users have how many events")


def times_plot(mapped: Mapped, is_time: bool) -> Markup | None:
    """Events over the span of the log."""
    span = mapped.facts.span
    if not mapped.timelines.num_rows or span is None or span[0] == span[1]:
        return None
    counts, edges = events_over_time(mapped)
    places = (edges / 1000 if is_time else edges).tolist()  # milliseconds, as JavaScript counts
    rows = [
        {"from": first, "to": last, "events": count}
        for first, last, count in zip(places[:-1], places[1:], counts.tolist(), strict=True)
    ]
    along: dict[str, Any] = {
        "field": "from",
        "type": "temporal" if is_time else "quantitative",
        "title": "time (UTC)" if is_time else "order",
        "scale": {"type": "utc"} if is_time else {"zero": False, "nice": False},
        "axis": {"grid": False, "tickCount": 6},
    }
    spec = _bars(rows, along, "events")
    spec["encoding"] |= {"x2": {"field": "to"}, "y2": {"datum": 0}}
    return still(spec, "Events over the span of the log")


def _bars(rows: list[dict[str, Any]], along: dict[str, Any], counted: str) -> dict[str, Any]:
    counts = number(counted, counted, scale={"zero": True}, tickMinStep=1, format=",d")
    return {
        "width": WIDTH,
        "height": 170,
        "data": values(rows),
        "mark": {"type": "bar", "color": INKS["accent"]},
        "encoding": {"x": along, "y": counts},
    }


def _class_name(number: int) -> str:
    first, last = 1 << number, (2 << number) - 1
    return f"{first:,}" if first == last else f"{first:,}–{last:,}" if last < 1000 else f"{first:,}+"
