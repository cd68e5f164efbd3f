"""From a Vega-Lite specification to a figure of a page: drawn beforehand, and drawn again where a script may run.

The picture is SVG in the colors of the page's style, so that one drawing reads in light, dark and print. Whoever allows
scripts gets the same drawn by Vega at the width that there is, with exact values under the pointer; the library comes
from the installed wheel and is part of the page. Specifications hold text of the log as data only, never as a key or an
expression.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any

from markupsafe import Markup, escape

from behaviorlm_ray.report.wording import readable

VEGA_LITE = "6.4"
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", Arial, sans-serif'
INKS = {
    name: f"var(--{name})"
    for name in ("ink", "muted", "line", "page", "accent", "accent-2", "quiet", "anchor", "tail")
}
SERIES = tuple(f"var(--series-{number})" for number in range(1, 7))
_AXIS = {
    "domainColor": INKS["line"],
    "gridColor": INKS["line"],
    "gridOpacity": 0.6,
    "tickColor": INKS["line"],
    "labelColor": INKS["muted"],
    "titleColor": INKS["muted"],
    "labelFontSize": 12,
    "titleFontSize": 12,
    "titleFontWeight": "normal",
    "titlePadding": 8,
    "labelPadding": 5,
}
CONFIG: dict[str, Any] = {
    "background": None,
    "font": FONT,
    "aria": False,
    "padding": 4,
    "view": {"stroke": None},
    "axis": _AXIS,
    "text": {"color": INKS["ink"], "fontSize": 12},
    "legend": {
        "labelColor": INKS["ink"],
        "labelFontSize": 12,
        "labelLimit": 260,
        "title": None,
        "orient": "top",
        "direction": "horizontal",
        "columns": 2,
        "symbolStrokeWidth": 2,
        "symbolOpacity": 1,
        "offset": 10,
    },
}
_SIDES = re.compile(r'^<svg [^>]*?width="([\d.]+)" height="([\d.]+)" viewBox="([^"]+)">')
_LICENSE = """/* Vega, Vega-Lite, Vega-Embed and what they are made of: copyright University of Washington Interactive
Data Lab and contributors, BSD-3-Clause (https://github.com/vega/vega/blob/main/LICENSE). */"""


def figure(spec: Mapping[str, Any], description: str) -> Markup:
    """A figure element. description: what a picture that is not seen shows, in a sentence."""
    whole = _finite({"config": CONFIG, "autosize": {"type": "fit-x", "contains": "padding"}, **spec})
    label = escape(readable(description))
    parts = [
        f'<figure class="chart" data-legend="{_longest(spec)}">',
        f'<div class="drawing" role="img" aria-label="{label}">{_drawn(json.dumps(whole))}</div>',
        f'<script type="application/json" class="spec">{embedded(whole)}</script></figure>',
    ]
    return Markup("".join(parts))


def still(spec: Mapping[str, Any], description: str) -> Markup:
    """The same for a page without scripts."""
    drawn = _drawn(json.dumps(_finite({"config": CONFIG, **spec})))
    return Markup(
        f'<div class="drawing" role="img" aria-label="{escape(readable(description))}">{drawn}</div>'
    )


def embedded(value: Any) -> Markup:
    """A value as JSON that can stand in a script element: nothing in it can end the element."""
    text = json.dumps(_finite(value), ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


@lru_cache(maxsize=1)
def script() -> Markup:
    """The library and the page's own script, one text."""
    import vl_convert

    own = (files("behaviorlm_ray.report") / "report.js").read_text(encoding="utf-8")
    library = vl_convert.javascript_bundle("window.draw = vegaEmbed;", vl_version=VEGA_LITE)
    assert "</script" not in library.lower() and "<!--" not in library
    return Markup(f"{_LICENSE}\n(() => {{ {library} }})();\n{own}")


def shortened(text: str, characters: int = 26) -> str:
    """Text for a label of a plot: made readable, cut in the middle, where names of behaviors differ least."""
    text = re.sub(r"\s+", " ", readable(text))
    if len(text) <= characters:
        return text
    ending = (characters - 1) // 2
    return f"{text[: characters - 1 - ending]}…{text[-ending:]}"


def labels(names: Sequence[str], characters: int = 26) -> list[str]:
    """Shortened names for an axis, each another: those that come out alike are numbered."""
    found: list[str] = []
    for name in names:
        label, number = shortened(name, characters), 1
        while label in found:
            number += 1
            label = f"{shortened(name, characters)} ({number})"
        found.append(label)
    return found


def values(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Data of a specification."""
    return {"values": list(rows)}


def tooltip(**titles: str) -> list[dict[str, str]]:
    """What is shown under the pointer, {field: title}. Numbers come as text, so that they read as in the tables."""
    return [{"field": field, "title": title, "type": "nominal"} for field, title in titles.items()]


def colors(series: Mapping[str, str]) -> dict[str, Any]:
    """A scale from names of series to their inks."""
    return {"domain": list(series), "range": list(series.values())}


def _longest(value: Any) -> int:
    """Letters of the longest entry of a legend, for how many of them stand beside each other."""
    if isinstance(value, Mapping):
        domain = value.get("domain")
        own = [len(entry) for entry in domain if isinstance(entry, str)] if isinstance(domain, list) else []
        return max([*own, *map(_longest, value.values())], default=0)
    return max(map(_longest, value), default=0) if isinstance(value, list | tuple) else 0


def _finite(value: Any) -> Any:
    """The same without numbers that JSON does not have: those are missing."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@lru_cache(maxsize=256)
def _drawn(spec: str) -> str:
    """The picture as an svg element that grows and shrinks with its place."""
    import vl_convert

    svg = vl_convert.vegalite_to_svg(json.loads(spec), vl_version=VEGA_LITE)
    found = _SIDES.match(svg)
    assert found is not None, svg[:200]
    width, _, box = found.groups()
    head = f'<svg viewBox="{box}" style="max-width: {float(width):g}px" aria-hidden="true" focusable="false">'
    return head + _own_clips(svg[found.end() :], hashlib.sha256(spec.encode()).hexdigest()[:8])


def _own_clips(svg: str, key: str) -> str:
    """The picture with ids that no other on the page has, whatever was drawn before it."""
    known = {name: f"{key}-{number}" for number, name in enumerate(re.findall(r'<clipPath id="(\w+)"', svg))}
    renamed = re.sub(r'<clipPath id="(\w+)"', lambda at: f'<clipPath id="{known[at[1]]}"', svg)
    return re.sub(r"url\(#(\w+)\)", lambda at: f"url(#{known[at[1]]})", renamed)
