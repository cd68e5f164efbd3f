"""The plots of a look at a log, drawn as those of the report."""

from typing import Any

import numpy as np
from markupsafe import Markup

from behaviorlm.events.facts import LogFacts
from behaviorlm.inspection.mapped import Mapped, events_over_time
from behaviorlm_ray.report.drawing import INKS, colors, labels, still, values

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
    is_named = len(ordered) <= MOST_NAMED
    lowest = LOWEST * min(rows[-1]["share"], threshold)
    scale = {"type": "log", "domainMin": lowest, "nice": False}
    axis = {"format": "~%", "tickCount": 5}
    number = {
        "field": "share",
        "type": "quantitative",
        "title": "share of the events",
        "scale": scale,
        "axis": axis,
    }
    color = {
        "field": "group",
        "type": "nominal",
        "scale": colors({"anchor": INKS["anchor"], "tail": INKS["tail"]}),
        "legend": None,
    }
    cut = {"data": values([{"at": threshold}])}
    line = {"type": "rule", "strokeDash": [4, 3], "color": INKS["muted"]}
    at = {"field": "at", "type": "quantitative"}
    if is_named:
        names = {
            "field": "label",
            "type": "nominal",
            "sort": {"field": "place"},
            "title": None,
            "axis": _BARE,
        }
        spec: dict[str, Any] = {
            "width": WIDTH,
            "height": {"step": 18},
            "data": values(rows),
            "layer": [
                {
                    "mark": {"type": "bar", "height": {"band": 0.7}},
                    "encoding": {"y": names, "x": number, "x2": {"datum": lowest}, "color": color},
                },
                {**cut, "mark": line, "encoding": {"x": at}},
            ],
        }
    else:
        ranks = {
            "field": "place",
            "type": "quantitative",
            "title": "behaviors, most frequent first",
            "scale": {"type": "log"},
            "axis": {"format": ",d", "tickCount": 5},
        }
        spec = {
            "width": WIDTH,
            "height": 240,
            "data": values(rows),
            "layer": [
                {
                    "mark": {"type": "point", "filled": True, "size": 14, "opacity": 1},
                    "encoding": {"x": ranks, "y": number, "color": color},
                },
                {**cut, "mark": line, "encoding": {"y": at}},
            ],
        }
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
    classes = {
        "field": "class",
        "type": "nominal",
        "sort": {"field": "order"},
        "title": "events of a user",
        "axis": {"grid": False, "labelAngle": -45 if len(rows) > 8 else 0},
    }
    return still(_bars(rows, classes, "users"), "How many users have how many events")


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
    spec["encoding"] |= {"x2": {"field": "to"}}
    return still(spec, "Events over the span of the log")


_BARE = {"grid": False, "ticks": False, "domain": False, "labelColor": INKS["ink"], "labelLimit": 220}


def _bars(rows: list[dict[str, Any]], along: dict[str, Any], counted: str) -> dict[str, Any]:
    axis = {"tickMinStep": 1, "tickCount": 5, "format": ",d"}
    return {
        "width": WIDTH,
        "height": 170,
        "data": values(rows),
        "mark": {"type": "bar", "color": INKS["accent"]},
        "encoding": {
            "x": along,
            "y": {"field": counted, "type": "quantitative", "title": counted, "axis": axis},
        },
    }


def _class_name(number: int) -> str:
    first, last = 1 << number, (2 << number) - 1
    return f"{first:,}" if first == last else f"{first:,}–{last:,}" if last < 1000 else f"{first:,}+"
