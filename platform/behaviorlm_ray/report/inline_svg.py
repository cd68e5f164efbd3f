"""From a matplotlib figure to SVG that lives inside a page: its fonts and colors are the page's own.

Plots are drawn in the sentinel colors of INKS; each becomes a CSS variable of the page's style, so that one
drawing reads in light and dark. Text stays text. Nothing in the result refers to anything outside it.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

INKS = {
    "ink": "#010101",
    "muted": "#020202",
    "line": "#030303",
    "page": "#040404",
    "anchor": "#050505",
    "tail": "#060606",
    "tuned": "#070707",
    "untuned": "#080808",
    "baseline": "#090909",
    "series-1": "#0a0a0a",
    "series-2": "#0b0b0b",
    "series-3": "#0c0c0c",
    "series-4": "#0d0d0d",
    "series-5": "#0e0e0e",
    "series-6": "#0f0f0f",
}
_COLOR = re.compile("|".join(INKS.values()))
_INK_OF = {color: f"var(--{ink})" for ink, color in INKS.items()}
_FONT_FAMILY = re.compile(r"font-family:[^;]*")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_DRAWING: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "text.color": INKS["ink"],
    "axes.labelcolor": INKS["muted"],
    "axes.labelsize": 12,
    "axes.edgecolor": INKS["line"],
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": INKS["line"],
    "grid.linewidth": 0.7,
    "xtick.color": INKS["line"],
    "ytick.color": INKS["line"],
    "xtick.labelcolor": INKS["muted"],
    "ytick.labelcolor": INKS["muted"],
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "legend.frameon": False,
    "legend.fontsize": 11,
    "figure.facecolor": "none",
}


@contextmanager
def drawing(width: float, height: float) -> Iterator[Figure]:
    """An empty figure of so many CSS pixels in the style of the report; call `inline` inside the block."""
    with rc_context(_DRAWING), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Glyph .* missing from"
        )  # the browser draws the text, not we
        yield Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained")


def inline(figure: Figure, key: str, description: str) -> Markup:
    """The figure as an `<svg>` element. `key` keeps its ids apart from those of other figures on the page."""
    written = io.BytesIO()
    figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(written.getvalue())
    width, height = (root.attrib.pop(side).removesuffix("pt") for side in ("width", "height"))
    for element in root.iter():
        element.tag = element.tag.partition("}")[2]
        element.attrib = dict(_attributes(element, key))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in ("metadata", "style"):
                parent.remove(child)
    root.attrib.pop("version", None)
    root.set("role", "img")
    root.set("aria-label", description)
    root.set("style", f"max-width: {float(width):g}px; aspect-ratio: {float(width):g} / {float(height):g}")
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # ElementTree escaped every text


def _attributes(element: ElementTree.Element, key: str) -> Iterator[tuple[str, str]]:
    for name, value in element.attrib.items():
        name = name.partition("}")[2] or name  # xlink:href becomes href
        if name == "id":
            if element.tag != "g":  # nothing refers to a group
                yield name, f"{key}-{value}"
        elif name == "href":
            yield name, f"#{key}-{value.removeprefix('#')}"
        elif name == "style":
            value = _COLOR.sub(lambda found: _INK_OF[found[0]], value)
            yield name, _FONT_FAMILY.sub("font-family: inherit", value)
        else:
            yield name, _REFERENCE.sub(rf"url(#{key}-\1)", value)
