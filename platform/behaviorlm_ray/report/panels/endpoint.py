"""The endpoint: a plot of each of its two numbers, and both against each other with the fronts of the models."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from behaviorlm_ray.report.content import Front, Interval
from behaviorlm_ray.report.drawing import INKS, SERIES, figure, labels, tooltip, values
from behaviorlm_ray.report.encodings import dashed, dots, layer, names, number, series
from behaviorlm_ray.report.forms import Forms, Shown
from behaviorlm_ray.report.wording import measured

ROLES = {
    "recommended": INKS["accent"],
    "model": INKS["accent-2"],
    "untuned": INKS["quiet"],
    "counting": INKS["muted"],
    "opponent": SERIES[3],
}
MOST_SHOWN = 16
"""Predictors in a plot; the table below has all."""
MOST_NAMED = 6
"""Models whose fronts are drawn, the best first."""
HEIGHT = 300
PADDED = {"nice": False, "padding": 14}
COUNTING, POSSIBLE = "counting", "best possible"


def role(shown: Shown, forms: Forms) -> str:
    """What a predictor is in the plots."""
    if forms.recommended is not None and shown.model == forms.recommended.model:
        return "recommended"
    return {"baseline": "counting", "tuned": "model"}.get(shown.kind, shown.kind)


def endpoint_figure(forms: Forms, which: str, title: str, ceiling: float | None) -> Markup | None:
    """One of the two, `anchor` or `tail`, of each predictor with its interval, in the order of the table."""
    best = _plotted(forms)
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
    across: dict[str, Any] = {"scale": {"nice": False, "padding": 10}, "format": ".2f", "tickCount": 4}
    layers = [
        layer(
            "rule", {"x": number("low", None, **across), "x2": {"field": "high"}}, strokeWidth=2, opacity=0.45
        ),
        dots({"x": number("value", None, **across)}),
    ]
    if ceiling is not None:
        told = tooltip(shown="the most that can be known")
        at = {"x": number("at", None, **across), "y": None, "color": None, "tooltip": told}
        layers.append(dashed("rule", at, [{"at": ceiling, "shown": measured(ceiling)}]))
    spec = {
        "width": 340,
        "height": {"step": 23},
        "data": values(rows),
        "encoding": {
            "y": names(),
            "color": series("role", ROLES, legend=False),
            "tooltip": tooltip(name="predictor", rule="rule", shown=title, interval="95 % interval"),
        },
        "layer": layers,
    }
    return figure(spec, f"{title} of each predictor with its 95 % interval; the table below has the numbers")


def _plotted(forms: Forms) -> list[Shown]:
    """The first of the table, and what is recommended or counting beside it wherever they stand."""
    kept = {shown.model for shown in (forms.recommended, forms.counting) if shown is not None}
    rest = [shown.model for shown in forms.best if shown.model not in kept]
    kept |= set(rest[: MOST_SHOWN - len(kept)])
    return [shown for shown in forms.best if shown.model in kept]


def front_figure(forms: Forms, fronts: Mapping[str, Front], truth: Front | None) -> Markup | None:
    """Tail against anchors: a point for each predictor, and what its models reach with more or less adjustment."""
    inks = _inks(forms, fronts)
    lines = [point for name in inks for point in _line(name, fronts.get(name))]
    best = _line(POSSIBLE, truth)
    points = [
        {
            "name": shown.predictor,
            "series": shown.predictor if shown.predictor in inks else COUNTING,
            "rule": shown.rule,
            "x": shown.anchor.value,
            "y": shown.tail.value,
            "anchor": measured(shown.anchor.value),
            "tail": measured(shown.tail.value),
        }
        for shown in forms.best
        if shown.mean is not None and (shown.predictor in inks or shown.kind == "baseline")
    ]
    if not points and not lines:
        return None
    inks |= {COUNTING: INKS["muted"]} | ({POSSIBLE: INKS["quiet"]} if best else {})
    ends = {"anchor": "anchor accuracy", "tail": "tail macro recall"}
    by_name = {"color": series("name", inks)}
    spec = {
        "width": 340,
        "height": HEIGHT,
        "encoding": {
            "x": number("x", "anchor accuracy →", scale=PADDED, format=".2f"),
            "y": number("y", "tail macro recall →", scale=PADDED, format=".2f"),
        },
        "layer": [
            layer(
                "line",
                {**by_name, "order": {"field": "order"}, "detail": {"field": "name"}},
                [*lines, *best],
                strokeWidth=1.6,
            ),
            dots(
                {**by_name, "tooltip": tooltip(name="predictor", tau="strength", **ends)},
                [*lines, *best],
                opacity=0,
            ),
            dots(
                {"color": series("series", inks), "tooltip": tooltip(name="predictor", rule="rule", **ends)},
                points,
                stroke=INKS["page"],
                strokeWidth=1,
            ),
        ],
    }
    return figure(spec, "Tail macro recall against anchor accuracy: predictors as points, fronts as lines")


def _inks(forms: Forms, fronts: Mapping[str, Front]) -> dict[str, str]:
    """The color of each model whose front is drawn; the accent is the recommended predictor's own."""
    recommended = "" if forms.recommended is None else forms.recommended.predictor
    models = [shown.predictor for shown in forms.best if _line("", fronts.get(shown.predictor))][:MOST_NAMED]
    others = [name for name in models if name != recommended]
    inks = {name: SERIES[1 + place % (len(SERIES) - 1)] for place, name in enumerate(others)}
    return {recommended: INKS["accent"], **inks} if recommended else inks


def _line(name: str, front: Front | None) -> list[dict[str, Any]]:
    """The points of a front in their order."""
    if front is None:
        return []
    taus: Sequence[float | None] = front.tau or [None] * len(front.anchor_accuracy)
    return [
        {"name": name, "order": order, "x": x, "y": y}
        | {"anchor": measured(x), "tail": measured(y), "tau": measured(tau, 2)}
        for order, (x, y, tau) in enumerate(
            zip(front.anchor_accuracy, front.tail_macro_recall, taus, strict=False)
        )
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
