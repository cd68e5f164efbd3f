"""How far a confidence can be trusted: the reliability curve, and what is gained by answering only when sure."""

from collections.abc import Sequence

from markupsafe import Markup

from behaviorlm_ray.report.breakdown_content import CoverageRow
from behaviorlm_ray.report.content import ReportData
from behaviorlm_ray.report.drawing import figure, tooltip, values
from behaviorlm_ray.report.encodings import dashed, dots, layer, share
from behaviorlm_ray.report.forms import Forms, Shown
from behaviorlm_ray.report.panels.lines import color_of
from behaviorlm_ray.report.wording import count, measured, percent

LISTED = (0.1, 0.25, 0.5, 0.75, 1.0)
"""Shares of the samples in the table of coverage."""


def reliability_figure(data: ReportData, forms: Forms) -> Markup | None:
    """Accuracy over confidence; the area of a point grows with its samples."""
    points = [
        {
            "name": shown.predictor,
            "confidence": one.mean_confidence,
            "accuracy": one.accuracy,
            "samples": one.samples,
            "bin": f"{percent(one.low)} to {percent(one.high)}",
            "sure": percent(one.mean_confidence),
            "right": percent(one.accuracy),
            "count": count(one.samples),
        }
        for shown in forms.set_apart
        for one in data.reliability.get(shown.model, [])
        if one.samples and one.mean_confidence is not None and one.accuracy is not None
    ]
    if not points:
        return None
    place = {
        "x": {"field": "confidence", "type": "quantitative"},
        "y": {"field": "accuracy", "type": "quantitative"},
    }
    size = {"field": "samples", "type": "quantitative", "scale": {"range": [20, 260]}, "legend": None}
    told = tooltip(name="predictor", bin="confidence", sure="sure", right="right", count="samples")
    diagonal = {
        "x": share("at", "how sure it was (mean of the bin)"),
        "y": share("at", "how often it was right"),
    }
    spec = {
        "width": 420,
        "height": 300,
        "layer": [
            dashed("line", diagonal, [{"at": 0}, {"at": 1}]),
            layer("line", {**place, "color": color_of(forms)}, points, strokeWidth=1.6),
            dots({**place, "color": color_of(forms), "size": size, "tooltip": told}, points, opacity=0.8),
        ],
    }
    return figure(spec, "How often predictions are right over how sure they are, by predictor")


def coverage_figure(data: ReportData, forms: Forms) -> Markup | None:
    """Precision of the surest predictions over how many of them are taken."""
    points = [
        {
            "name": shown.predictor,
            "coverage": row.coverage,
            "precision": row.precision,
            "taken": percent(row.coverage),
            "right": percent(row.precision),
            "threshold": measured(row.threshold),
            "count": count(row.samples),
        }
        for shown, rows in coverages(data, forms)
        for row in rows
    ]
    if not points:
        return None
    told = {"name": "predictor", "taken": "answered", "right": "right", "threshold": "from confidence"}
    spec = {
        "width": 420,
        "height": 300,
        "data": values(points),
        "encoding": {
            "x": share("coverage", "share answered, the surest first"),
            "y": share("precision", "right among these"),
            "color": color_of(forms),
        },
        "layer": [
            layer("line", strokeWidth=2, point={"size": 36, "filled": True}),
            dots({"tooltip": tooltip(**told, count="samples")}, size=220, opacity=0),
        ],
    }
    return figure(spec, "Precision against coverage: how often the surest predictions are right")


def coverages(data: ReportData, forms: Forms) -> list[tuple[Shown, Sequence[CoverageRow]]]:
    """The rows of each predictor that is set apart."""
    if data.breakdowns is None:
        return []
    found = [(shown, data.breakdowns.coverage.get(shown.model, [])) for shown in forms.set_apart]
    return [(shown, rows) for shown, rows in found if rows]


def coverage_table(data: ReportData, forms: Forms) -> list[tuple[Shown, list[CoverageRow]]]:
    """For each predictor the rows nearest to the listed shares."""
    return [
        (shown, [min(rows, key=lambda row: abs(row.coverage - share)) for share in LISTED])
        for shown, rows in coverages(data, forms)
    ]
