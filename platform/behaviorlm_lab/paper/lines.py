"""Exhibits along an axis of runs: shots for bases of several sizes, and shares of the data."""

from collections.abc import Sequence
from typing import Any

from behaviorlm_lab.paper.comparisons import ENDS, counted, decided, expected
from behaviorlm_lab.paper.drawn import HIGH, LOW, Drawn, Row, colored, measured
from behaviorlm_lab.paper.drawn import series as series_by
from behaviorlm_lab.paper.finished import PaperRun, methods_of
from behaviorlm_lab.paper.messages import leader
from behaviorlm_lab.paper.settings import ExhibitSettings

OFFSET = 0.5
"""Of the distance between two points of the axis, over which series stand beside each other."""


def lines(exhibit: ExhibitSettings, runs: Sequence[PaperRun]) -> Drawn:
    """A row a run, method and end of the endpoint. A line a method; where runs differ on another axis, too, a line each
    of its places and a row of panels a method.
    """
    assert exhibit.along is not None
    axes = list(dict.fromkeys(axis for run in runs for axis in run.at))
    rows: list[Row] = []
    for run in runs:
        for method in methods_of(run, exhibit):
            found = expected(run, method)
            for name, of in ENDS.items():
                value = method.interval(run.data, *of)
                rows.append(
                    {
                        **{axis: run.at.get(axis, "") for axis in axes},
                        "method": method.label,
                        "predictor": method.shown.model,
                        "metric": name,
                        **measured("value", value.value, value.low, value.high),
                        "expected": found.get(f"{name.partition(' ')[0]}, expected"),
                    }
                )
    others = [axis for axis in axes if axis != exhibit.along]
    return Drawn(
        rows,
        _lines(rows, exhibit.along, others[0] if others else None),
        (decided(exhibit), *counted(runs)),
        _message(rows, exhibit.along, others),
    )


def _message(rows: Sequence[Row], along: str, others: Sequence[str]) -> str:
    """Who has most of each end at the first and the last place of the axis."""
    places = list(dict.fromkeys(row[along] for row in rows))
    parts = []
    for name in ENDS:
        told = []
        for place in (places[0], places[-1]):
            here = [row for row in rows if row["metric"] == name and row[along] == place]
            named = [
                {**row, "who": ", ".join([row["method"], *(row[axis] for axis in others)])} for row in here
            ]
            told.append(f"{along} {place}: {leader(named, 'value', 'who')}")
        parts.append(f"Most {name}. " + "; ".join(told) + ".")
    return " ".join(parts)


def _lines(rows: Sequence[Row], along: str, other: str | None) -> dict[str, Any]:
    """A column of panels for each end of the endpoint."""
    series = other or "method"
    named = list(dict.fromkeys(row[series] for row in rows))
    places = list(dict.fromkeys(row[along] for row in rows))
    step = OFFSET / max(len(named), 1)
    # points of an axis of names cannot be moved aside for lines too, so their places are numbers
    placed = [
        {**row, "x": places.index(row[along]) + (named.index(row[series]) - (len(named) - 1) / 2) * step}
        for row in rows
    ]
    words = " : ".join(f"datum.value == {place} ? {_quoted(name)}" for place, name in enumerate(places))
    x = {
        "field": "x",
        "type": "quantitative",
        "title": along,
        "scale": {"domain": [-0.5, len(places) - 0.5], "nice": False},
        "axis": {"values": list(range(len(places))), "labelExpr": f"{words} : ''", "grid": False},
    }
    y = {
        "type": "quantitative",
        "title": None,
        "scale": {"zero": False, "padding": 8},
        "axis": {"tickCount": 5},
    }
    facet: dict[str, Any] = {
        "column": {"field": "metric", "type": "nominal", "title": None, "sort": list(ENDS)}
    }
    if other is not None:
        methods = list(dict.fromkeys(row["method"] for row in rows))
        facet["row"] = {"field": "method", "type": "nominal", "title": None, "sort": methods}
    color = {"field": series, "type": "nominal", "scale": colored(named), "sort": named}
    return {
        "data": {"values": placed},
        "facet": facet,
        "spec": {
            "width": 300,
            "height": 170 if other is not None else 240,
            "encoding": {"x": x, "color": color},
            "layer": [
                {
                    "mark": {"type": "rule", "strokeWidth": 1.2},
                    "encoding": {"y": {"field": f"value{LOW}", **y}, "y2": {"field": f"value{HIGH}"}},
                },
                {
                    "mark": {"type": "line", "strokeWidth": 2},
                    "encoding": {"y": {"field": "value", **y}, **series_by(series, named, "strokeDash")},
                },
                {
                    "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
                    "encoding": {"y": {"field": "value", **y}, **series_by(series, named, "shape")},
                },
            ],
        },
        "resolve": {"scale": {"y": "independent"}} if other is None else {},
    }


def _quoted(name: str) -> str:
    """A name of an axis, which configurations give, as text of an expression."""
    return "'" + name.replace("\\", "\\\\").replace("'", "\\'") + "'"
