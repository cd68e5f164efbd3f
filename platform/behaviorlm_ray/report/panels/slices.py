"""Accuracy by circumstance: history, what is known of the user, repeats and changes, the clock."""

from dataclasses import dataclass

from markupsafe import Markup

from behaviorlm_ray.report.breakdown_content import SliceRow
from behaviorlm_ray.report.content import ReportData
from behaviorlm_ray.report.drawing import figure, tooltip, values
from behaviorlm_ray.report.encodings import classes, dots, layer, share
from behaviorlm_ray.report.forms import Forms, Shown
from behaviorlm_ray.report.panels.first_screen import groups_called
from behaviorlm_ray.report.panels.lines import color_of
from behaviorlm_ray.report.wording import count, percent, readable

TITLES = {
    "history": ("By length of the history", "events that the model saw before the sample"),
    "known": ("Cold start", "events of the user in the training part"),
    "repeat": ("Repeats and changes", "whether the behavior right before came again"),
    "hour": ("By hour", "hour of the log's clock"),
    "weekday": ("By weekday", "weekday of the log's clock"),
}
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclass(frozen=True)
class SliceView:
    """One circumstance: its plot, and its rows with the accuracy of each predictor that is set apart."""

    title: str
    meaning: str
    note: str
    plot: Markup | None
    shown: list[Shown]
    rows: list[SliceRow]


def slice_views(data: ReportData, forms: Forms) -> list[SliceView]:
    """Those that there are, in the order of TITLES."""
    if data.breakdowns is None:
        return []
    found = []
    for name, (title, meaning) in TITLES.items():
        if rows := _ordered(name, data.breakdowns.slices.get(name, [])):
            found.append(
                SliceView(
                    title,
                    meaning,
                    _note(name, rows),
                    _plot(rows, forms, (title, meaning), groups_called(data)),
                    forms.set_apart,
                    rows,
                )
            )
    return found


def _ordered(name: str, rows: list[SliceRow]) -> list[SliceRow]:
    if name != "weekday" or not all(row.label in WEEKDAYS for row in rows):
        return rows
    return sorted(rows, key=lambda row: WEEKDAYS.index(row.label))


def _note(name: str, rows: list[SliceRow]) -> str:
    if name == "known" and all(row.label != "0" for row in rows):
        return "No user of the test part is new: each has events in the training part."
    return ""


def _plot(rows: list[SliceRow], forms: Forms, titles: tuple[str, str], groups: str) -> Markup | None:
    title, meaning = titles
    points = [
        {
            "name": shown.predictor,
            "label": readable(row.label),
            "order": order,
            "accuracy": row.accuracy.get(shown.model),
            "shown": percent(row.accuracy.get(shown.model)),
            "samples": count(row.samples),
            "groups": count(row.groups),
        }
        for order, row in enumerate(rows)
        for shown in forms.set_apart
        if row.accuracy.get(shown.model) is not None
    ]
    if not points:
        return None
    told = tooltip(label=meaning, name="predictor", shown="accuracy", samples="test samples", groups=groups)
    x = classes(meaning, labelOverlap="greedy", labelSeparation=3)
    encoding = {"x": x, "y": share("accuracy", "accuracy"), "color": color_of(forms)}
    if len(rows) <= 2:
        encoding["xOffset"] = {"field": "name", "sort": None}
        layers = [layer("bar", {"tooltip": told}, cornerRadius=2)]
    else:
        layers = [
            layer("line", strokeWidth=2, point={"size": 50, "filled": True}),
            dots({"tooltip": told}, size=250, opacity=0),
        ]
    spec = {"width": 420, "height": 200, "data": values(points), "encoding": encoding, "layer": layers}
    return figure(spec, f"Accuracy {title.lower()}: {meaning}; the table has the numbers")
