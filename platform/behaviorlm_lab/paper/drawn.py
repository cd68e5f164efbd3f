"""What an exhibit comes to, and the files it is written into: a picture, the very numbers as CSV, and a page."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from behaviorlm_ray import storage

Row = dict[str, Any]
Spec = dict[str, Any]

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Seven that people with any color vision tell apart (Okabe and Ito)."""
GROUPS = {"anchor": COLORS[0], "tail": COLORS[1]}
LOW, HIGH = " low", " high"
"""End the names of columns that are the bounds of another."""
MOST_ROWS = 120
"""Rows of a table on the page; the CSV has all."""
NOTHING = "–"
NUMBERS = "## The numbers"
"""Begins the table below a picture, which the page of all exhibits leaves to the exhibit's own."""
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 2], [10, 4], [1, 3])
"""With them series are told apart in gray, too."""
LOOK: Spec = {
    "background": "#ffffff",
    "padding": 10,
    "font": "Helvetica, Arial, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelLimit": 260,
        "gridColor": "#e4e6e9",
        "domainColor": "#8c959f",
        "tickColor": "#8c959f",
    },
    "header": {
        "labelFontSize": 13,
        "titleFontSize": 13,
        "labelFontWeight": "bold",
        "titleFontWeight": "normal",
    },
    "legend": {
        "title": None,
        "orient": "top",
        "direction": "horizontal",
        "columns": 4,
        "labelFontSize": 12,
        "labelLimit": 300,
        "symbolSize": 90,
        "symbolStrokeWidth": 0,
    },
}


@dataclass(frozen=True)
class Drawn:
    """rows: the numbers, with the same columns in each. spec: a Vega-Lite picture of them; None: the rows are the
    exhibit. notes: what has to be known to read it. message: what it shows, in a sentence made of the numbers.
    """

    rows: list[Row]
    spec: Spec | None = None
    notes: tuple[str, ...] = ()
    message: str = ""

    @property
    def has_intervals(self) -> bool:
        """Whether any column has bounds."""
        return any(name.endswith(LOW) for name in self.rows[0])


def measured(name: str, value: float | None, low: float | None, high: float | None) -> Row:
    """A value and its bounds as columns."""
    return {name: value, f"{name}{LOW}": low, f"{name}{HIGH}": high}


def colored(names: Sequence[str]) -> Spec:
    """A color for each name of a series, in their order."""
    return {"domain": list(names), "range": [COLORS[place % len(COLORS)] for place in range(len(names))]}


def series(field: str, names: Sequence[str], kind: str) -> Spec:
    """A series told by shape or dash (`kind`: shape or strokeDash) beside its color."""
    of = SHAPES if kind == "shape" else DASHES
    scale = {"domain": list(names), "range": [of[place % len(of)] for place in range(len(names))]}
    return {kind: {"field": field, "type": "nominal", "scale": scale, "sort": list(names)}}


def write_exhibit(folder: Path, name: str, drawn: Drawn, title: str, caption: str) -> None:
    """Write <name>.csv, <name>.md and, of a figure, <name>.svg."""
    picture: list[str] = []
    if drawn.spec is not None:
        storage.write_replacing(folder / f"{name}.svg", svg(drawn.spec).encode())
        picture = [f"![{title}]({name}.svg)", ""]
    storage.write_replacing(folder / f"{name}.csv", as_csv(drawn.rows).encode())
    told = [*([NUMBERS, ""] if picture else []), *table(drawn.rows[:MOST_ROWS]), ""]
    if len(drawn.rows) > MOST_ROWS:
        told += [f"The first {MOST_ROWS} of {len(drawn.rows)} rows; all are in [{name}.csv]({name}.csv).", ""]
    notes = [f"{note}\n" for note in drawn.notes]
    message = [f"**{drawn.message}**", ""] if drawn.message else []
    page = "\n".join([f"# {title}", "", *message, *picture, caption, "", *notes, *told])
    storage.write_replacing(folder / f"{name}.md", page.encode())


def brief(page: bytes, name: str) -> bytes:
    """A page without the table below its picture, a level deeper, as it stands among others."""
    head, numbers, _ = page.partition(f"{NUMBERS}\n".encode())
    more = f"[The numbers]({name}.md), [as CSV]({name}.csv).\n".encode() if numbers else b""
    return b"#" + head + more


def write_missing(folder: Path, name: str, title: str, lines: Sequence[str]) -> None:
    """Write a page that says what is missing, and remove what was drawn of earlier runs."""
    for suffix in (".svg", ".csv"):
        (folder / f"{name}{suffix}").unlink(missing_ok=True)
    page = "\n".join([f"# {title}", "", "Not made:", "", *lines, ""])
    storage.write_replacing(folder / f"{name}.md", page.encode())


def svg(spec: Mapping[str, Any]) -> str:
    """The picture of a specification."""
    import vl_convert

    return str(vl_convert.vegalite_to_svg({"config": LOOK, **spec}))


def as_csv(rows: Sequence[Row]) -> str:
    """The rows with a header, numbers in full; nothing for None."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def table(rows: Sequence[Row]) -> list[str]:
    """Lines in Markdown: a value with its bounds in one cell, three digits."""
    names = [name for name in rows[0] if not name.endswith((LOW, HIGH))]
    is_number = [any(isinstance(row[name], int | float) for row in rows) for name in names]
    lines = [
        "| " + " | ".join(map(_cell, names)) + " |",
        "|" + "|".join("---:" if right else "---" for right in is_number) + "|",
    ]
    lines += ["| " + " | ".join(_with_bounds(row, name) for name in names) + " |" for row in rows]
    return lines


def _with_bounds(row: Row, name: str) -> str:
    low, high = row.get(f"{name}{LOW}"), row.get(f"{name}{HIGH}")
    if row[name] is None or low is None or high is None:
        return _cell(row[name])
    return f"{_cell(row[name])} [{_cell(low)}, {_cell(high)}]"


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return NOTHING
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "\\|")
