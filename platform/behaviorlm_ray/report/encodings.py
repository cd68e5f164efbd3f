"""Pieces of Vega-Lite specifications that the plots share: axes of names and numbers, colors, layers."""

from collections.abc import Mapping, Sequence
from typing import Any

from behaviorlm_ray.report.drawing import INKS, colors, values

Spec = dict[str, Any]


def names(field: str = "label", order: str = "order") -> Spec:
    """Names down the side, in the order of another field."""
    axis = {"grid": False, "ticks": False, "domain": False, "labelColor": INKS["ink"], "labelLimit": 220}
    return {"field": field, "type": "nominal", "sort": {"field": order}, "title": None, "axis": axis}


def classes(title: str | None, field: str = "label", order: str = "order", **axis: Any) -> Spec:
    """Classes along the bottom, in the order of another field."""
    along = {"grid": False, "labelAngle": 0, **axis}
    return {"field": field, "type": "nominal", "sort": {"field": order}, "title": title, "axis": along}


def number(field: str, title: str | None, *, scale: Mapping[str, Any] | None = None, **axis: Any) -> Spec:
    """A number along an axis that need not begin at zero."""
    is_logarithmic = scale is not None and scale.get("type") == "log"
    return {
        "field": field,
        "type": "quantitative",
        "title": title,
        "scale": {**({} if is_logarithmic else {"zero": False}), "nice": True, **(scale or {})},
        "axis": {"tickCount": 5, **axis},
    }


def share(field: str, title: str | None) -> Spec:
    """A share of one as percent, from zero on."""
    return number(field, title, scale={"zero": True}, format=".0%")


def series(field: str, inks: Mapping[str, str], *, legend: bool = True) -> Spec:
    """Colors by the name of a series, named above the plot in the order given."""
    found: Spec = {"field": field, "type": "nominal", "scale": colors(inks), "sort": None}
    return found if legend else {**found, "legend": None}


def layer(
    mark: str,
    encoding: Mapping[str, Any] | None = None,
    data: Sequence[Mapping[str, Any]] | None = None,
    **style: Any,
) -> Spec:
    """One mark with what it adds to the encoding of its plot, of data of its own where these are given."""
    found: Spec = {"mark": {"type": mark, **style}}
    if encoding:
        found["encoding"] = dict(encoding)
    return found if data is None else {"data": values(data), **found}


def dots(
    encoding: Mapping[str, Any] | None = None, data: Sequence[Mapping[str, Any]] | None = None, **style: Any
) -> Spec:
    """Filled points."""
    return layer("point", encoding, data, **{"filled": True, "size": 80, "opacity": 1, **style})


def dashed(mark: str, encoding: Mapping[str, Any], data: Sequence[Mapping[str, Any]]) -> Spec:
    """A quiet dashed line."""
    return layer(mark, encoding, data, strokeDash=[4, 3], color=INKS["muted"], strokeWidth=1)
