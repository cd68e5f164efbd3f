"""The endpoint: a plot of each of its two numbers, and both against each other with the fronts of the models."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from behaviorlm_ray.report.content import Front, Interval
from behaviorlm_ray.report.drawing import INKS, SERIES, colors, figure, labels, tooltip, values
from behaviorlm_ray.report.forms import Forms, Shown
from behaviorlm_ray.report.wording import measured

ROLES = {
    "recommended": INKS["accent"],
    "model": INKS["accent-2"],
    "untuned": INKS["quiet"],
    "counting": INKS["muted"],
}
MOST_SHOWN = 16
"""Predictors in a plot; the table below has all."""
MOST_NAMED = 6
"""Models whose fronts are drawn, the best first."""
HEIGHT = 300


def role(shown: Shown, forms: Forms) -> str:
    """What a predictor is in the plots."""
    if forms.recommended is not None and shown.model == forms.recommended.model:
        return "recommended"
    return {"baseline": "counting", "untuned": "untuned"}.get(shown.kind, "model")


def endpoint_figure(forms: Forms, which: str, title: str, ceiling: float | None) -> Markup | None:
    """One of the two, `anchor` or `tail`, of each predictor with its interval, in the order of the table."""
    best = forms.best[:MOST_SHOWN]
    named = labels([shown.predictor for shown in best], 24)
    rows = [
        {
            "name": shown.predictor,
            "label": label,
            "rule": shown.rule,
            "order": order,
            "role": role(shown, forms),
            **_numbers(getattr(shown, which)),
        }
        for order, (shown, label) in enumerate(zip(best, named, strict=True))
        if getattr(shown, which).value is not None
    ]
    if not rows:
        return None
    y = {
        "field": "label",
        "type": "nominal",
        "sort": {"field": "order"},
        "title": None,
        "axis": {
            "grid": False,
            "ticks": False,
            "domain": False,
            "labelColor": INKS["ink"],
            "labelLimit": 190,
        },
    }
    color = {"field": "role", "type": "nominal", "scale": colors(ROLES), "legend": None}
    told = tooltip(name="predictor", rule="rule", shown=title, interval="95 % interval")
    x_axis = {"format": ".2f", "tickCount": 4}
    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.45},
            "encoding": {"x": {"field": "low", "type": "quantitative"}, "x2": {"field": "high"}},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
            "encoding": {"x": {"field": "value", "type": "quantitative"}},
        },
    ]
    if ceiling is not None:
        layers.append(
            {
                "data": values([{"at": ceiling, "shown": measured(ceiling)}]),
                "mark": {"type": "rule", "strokeDash": [4, 3], "color": INKS["muted"]},
                "encoding": {
                    "x": {"field": "at", "type": "quantitative"},
                    "y": None,
                    "color": None,
                    "tooltip": tooltip(shown="the most that can be known"),
                },
            }
        )
    spec = {
        "width": 340,
        "height": {"step": 23},
        "data": values(rows),
        "encoding": {
            "y": y,
            "color": color,
            "tooltip": told,
            "x": {"title": None, "axis": x_axis, "scale": {"zero": False, "nice": False, "padding": 10}},
        },
        "layer": layers,
    }
    return figure(spec, f"{title} of each predictor with its 95 % interval; the table below has the numbers")


def front_figure(forms: Forms, fronts: Mapping[str, Front], truth: Front | None) -> Markup | None:
    """Tail against anchors: a point for each predictor, and what its models reach with more or less adjustment."""
    models = [shown for shown in forms.best if _line(fronts.get(shown.predictor))][:MOST_NAMED]
    recommended = "" if forms.recommended is None else forms.recommended.predictor
    others = [shown.predictor for shown in models if shown.predictor != recommended]
    named = {recommended: INKS["accent"]} if recommended else {}  # the accent is its own
    named |= {name: SERIES[1 + number % (len(SERIES) - 1)] for number, name in enumerate(others)}
    lines = [
        {"name": name, "order": order, **point}
        for name in named
        for order, point in enumerate(_line(fronts.get(name)))
    ]
    counting = "counting"
    points = [
        {
            "name": shown.predictor,
            "series": shown.predictor if shown.predictor in named else counting,
            "rule": shown.rule,
            "x": shown.anchor.value,
            "y": shown.tail.value,
            "anchor": measured(shown.anchor.value),
            "tail": measured(shown.tail.value),
        }
        for shown in forms.best
        if shown.mean is not None and (shown.predictor in named or shown.kind == "baseline")
    ]
    if not points and not lines:
        return None
    inks = {**named, counting: INKS["muted"]}
    if truth is not None and (best := _line(truth)):
        inks["best possible"] = INKS["quiet"]
        lines += [{"name": "best possible", "order": order, **point} for order, point in enumerate(best)]
    color = {"type": "nominal", "scale": colors(inks), "sort": None}
    spec = {
        "width": 340,
        "height": HEIGHT,
        "encoding": {
            "x": _axis("x", "anchor accuracy →"),
            "y": _axis("y", "tail macro recall →"),
        },
        "layer": [
            {
                "data": values(lines),
                "mark": {"type": "line", "strokeWidth": 1.6},
                "encoding": {
                    "color": {"field": "name", **color},
                    "order": {"field": "order"},
                    "detail": {"field": "name"},
                },
            },
            {
                "data": values(lines),
                "mark": {"type": "point", "filled": True, "size": 60, "opacity": 0},
                "encoding": {
                    "color": {"field": "name", **color},
                    "tooltip": tooltip(
                        name="predictor", tau="strength", anchor="anchor accuracy", tail="tail macro recall"
                    ),
                },
            },
            {
                "data": values(points),
                "mark": {
                    "type": "point",
                    "filled": True,
                    "size": 80,
                    "opacity": 1,
                    "stroke": INKS["page"],
                    "strokeWidth": 1,
                },
                "encoding": {
                    "color": {"field": "series", **color},
                    "tooltip": tooltip(
                        name="predictor", rule="rule", anchor="anchor accuracy", tail="tail macro recall"
                    ),
                },
            },
        ],
    }
    return figure(spec, "Tail macro recall against anchor accuracy: predictors as points, fronts as lines")


def _line(front: Front | None) -> list[dict[str, Any]]:
    """The points of a front in their order."""
    if front is None:
        return []
    taus: Sequence[float | None] = front.tau or [None] * len(front.anchor_accuracy)
    return [
        {"x": x, "y": y, "anchor": measured(x), "tail": measured(y), "tau": measured(tau, 2)}
        for x, y, tau in zip(front.anchor_accuracy, front.tail_macro_recall, taus, strict=False)
        if x is not None and y is not None
    ]


def _numbers(of: Interval) -> dict[str, Any]:
    """A value with its bounds, and both as they are shown."""
    has_interval = of.low is not None and of.high is not None
    return {
        "value": of.value,
        "low": of.low if has_interval else of.value,
        "high": of.high if has_interval else of.value,
        "shown": measured(of.value),
        "interval": f"{measured(of.low)} – {measured(of.high)}",
    }


def _axis(field: str, title: str) -> dict[str, Any]:
    return {
        "field": field,
        "type": "quantitative",
        "title": title,
        "scale": {"zero": False, "nice": False, "padding": 14},
        "axis": {"format": ".2f", "tickCount": 5},
    }
