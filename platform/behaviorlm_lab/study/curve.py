"""The curve of a study: both against the shots, a line for each role, a panel for each base."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import vl_convert

from behaviorlm_lab.study.records import kind_of

Record = Mapping[str, Any]


def curve(records: Sequence[Record]) -> str:
    """As SVG. A point is the mean over seeds, its bar the range from the least to the largest seed."""
    rows = [
        {"k": of[0]["k"], "knowledge": of[0]["knowledge"], "model": role, **_spread(of, role)}
        for of in (list(of) for _, of in groupby(records, key=kind_of))
        for role in of[0]["roles"]
    ]
    order = list(dict.fromkeys(row["k"] for row in rows))
    x = {"field": "k", "type": "ordinal", "sort": order, "title": "samples of each tail behavior"}
    color = {"field": "model", "type": "nominal", "title": None}
    y = {"type": "quantitative", "scale": {"zero": False}, "title": "anchor accuracy and tail recall, mean"}
    offset = {"field": "model"}
    spec = {
        "data": {"values": rows},
        "facet": {"column": {"field": "knowledge", "title": "share of the causes that the base has read of"}},
        "spec": {
            "width": 380,
            "height": 300,
            "encoding": {"x": x, "color": color, "xOffset": offset},
            "layer": [
                {"mark": "rule", "encoding": {"y": {"field": "low", **y}, "y2": {"field": "high"}}},
                {"mark": {"type": "point", "filled": True}, "encoding": {"y": {"field": "both", **y}}},
            ],
        },
    }
    return str(vl_convert.vegalite_to_svg(spec))


def _spread(records: Sequence[Record], role: str) -> dict[str, float]:
    values = [record["roles"][role]["both"] for record in records]
    return {"both": float(np.mean(values)), "low": min(values), "high": max(values)}
