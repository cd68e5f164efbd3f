"""The framework as it ran: the stages of A+B drawn from their manifests, as boxes in columns with arrows between."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from behaviorlm_lab.paper.cost import TUNING
from behaviorlm_lab.paper.drawn import COLORS, Drawn, Row
from behaviorlm_lab.paper.finished import PaperRun, tokens_of
from behaviorlm_lab.paper.settings import ExhibitSettings
from behaviorlm_ray.report.wording import count, duration
from behaviorlm_ray.stages.manifests import Manifest

SHOWN = "ab_tuned"
"""The arm whose stages are the framework."""
BOX_WIDTH, BOX_HEIGHT, GAP_X, GAP_Y, HEAD = 160, 64, 46, 26, 7
"""Pixels."""
KINDS = {"data": COLORS[5], "tuning": COLORS[4], "scores": COLORS[2], "choice": COLORS[3]}
KIND_OF = {"prepare": "data", "conversations": "data", "select": "choice"}
INK = "#57606a"

Graph = Mapping[str, Sequence[str]]
"""What each stage reads of the others, by their fingerprints."""
Spot = tuple[float, float]


def framework(exhibit: ExhibitSettings, runs: Sequence[PaperRun]) -> Drawn:
    """A row a stage of A+B: what it reads of other stages, and what its manifest says it did."""
    [run] = runs
    way = {one.fingerprint: one for one in [*run.way_to(SHOWN), run.stage("evaluate")]}
    graph = {
        name: [of.fingerprint for of in run.reads(one) if of.fingerprint in way] for name, one in way.items()
    }
    depths = _depths(graph)
    rows: list[Row] = [
        {
            "stage": one.stage,
            "reads": ", ".join(sorted({way[of].stage for of in graph[name]})),
            "what": None if one.main_count is None else one.main_count[0],
            "rows": None if one.main_count is None else one.main_count[1],
            "steps": one.rows.get("steps"),
            "tokens": tokens_of(one),
            "seconds": one.duration_seconds,
        }
        for name, one in sorted(way.items(), key=lambda item: (depths[item[0]], item[1].stage))
    ]
    note = "Drawn from the manifests of one run. An arrow that follows from others is left out, and so are other arms."
    tuned = sum(row["stage"].startswith(TUNING) for row in rows)
    seconds = sum(row["seconds"] for row in rows)
    message = f"A → B ran as {len(rows)} stages, {tuned} of them tunings, in {duration(seconds)} in all."
    return Drawn(rows, _picture(way, graph), (note,), message)


def _depths(graph: Graph) -> dict[str, int]:
    """How many stages come before each, on the longest way."""

    def depth(name: str) -> int:
        return 1 + max(map(depth, graph[name]), default=-1)

    return {name: depth(name) for name in graph}


def _needed(graph: Graph) -> list[tuple[str, str]]:
    """(read, reader) for what does not follow from the rest: the transitive reduction."""

    def below(name: str) -> set[str]:
        return {each for of in graph[name] for each in {of, *below(of)}}

    return [
        (of, name)
        for name, read in graph.items()
        for of in read
        if not any(of in below(other) for other in read)
    ]


def _lanes(graph: Graph, names: Mapping[str, str]) -> tuple[dict[str, Spot], list[list[str]]]:
    """The place (column, row) of each stage, and of each arrow the places that it goes through, by name.

    An arrow over several columns has a row to itself in those between; a column's rows are ordered by where their
    arrows come from.
    """
    depths = _depths(graph)
    columns: list[list[str]] = [[] for _ in range(max(depths.values()) + 1)]
    for name in sorted(graph, key=names.__getitem__):
        columns[depths[name]].append(name)
    ways, comes_from = [], {name: list[str]() for name in graph}
    for of, name in _needed(graph):
        between = [f"{of} {name} {column}" for column in range(depths[of] + 1, depths[name])]
        for number, lane in enumerate(between, depths[of] + 1):
            columns[number].append(lane)
        way = [of, *between, name]
        ways.append(way)
        for start, end in pairwise(way):
            comes_from.setdefault(end, []).append(start)
    most = max(map(len, columns))
    places: dict[str, Spot] = {}
    for number, column in enumerate(columns):
        rows = {at: [places[of][1] for of in comes_from.get(at, [])] for at in column}
        ordered = sorted(column, key=lambda at: sum(rows[at]) / len(rows[at]) if rows[at] else 0.0)
        places |= {at: (number, row + (most - len(column)) / 2) for row, at in enumerate(ordered)}
    return places, ways


def _picture(way: Mapping[str, Manifest], graph: Graph) -> dict[str, Any]:
    places, ways = _lanes(graph, {name: one.stage for name, one in way.items()})
    corners = {
        at: (column * (BOX_WIDTH + GAP_X), row * (BOX_HEIGHT + GAP_Y)) for at, (column, row) in places.items()
    }
    boxes = [
        {
            "kind": _kind(one.stage),
            "x": corners[name][0],
            "x2": corners[name][0] + BOX_WIDTH,
            "y": corners[name][1],
            "y2": corners[name][1] + BOX_HEIGHT,
            "middle": corners[name][0] + BOX_WIDTH / 2,
            "stage": one.stage,
            "did": _did(one),
            "took": duration(one.duration_seconds),
        }
        for name, one in way.items()
    ]
    points = [
        {"arrow": number, "order": order, "x": x, "y": y}
        for number, through in enumerate(ways)
        for order, (x, y) in enumerate(_points([corners[at] for at in through]))
    ]
    ends = list({one["arrow"]: one for one in points}.values())  # the last point of each
    return _spec(boxes, points, ends)


def _points(corners: Sequence[Spot]) -> list[Spot]:
    """The bends of an arrow: from the right side of its first box, straight through rows of its own, to the last's."""
    middles = [(x, y + BOX_HEIGHT / 2) for x, y in corners]
    first, *between, last = middles
    through = [point for x, y in between for point in ((x, y), (x + BOX_WIDTH, y))]
    return [(first[0] + BOX_WIDTH, first[1]), *through, (last[0] - HEAD, last[1])]


def _spec(
    boxes: Sequence[Mapping[str, Any]], points: Sequence[Mapping[str, Any]], ends: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    width, height = (max(box[end] for box in boxes) for end in ("x2", "y2"))
    x = {"type": "quantitative", "axis": None, "scale": {"domain": [0, width], "nice": False}}
    y = {"type": "quantitative", "axis": None, "scale": {"domain": [height, 0], "nice": False}}
    at = {"x": {"field": "x", **x}, "y": {"field": "y", **y}}
    kinds = [kind for kind in KINDS if any(box["kind"] == kind for box in boxes)]
    kind = {
        "field": "kind",
        "type": "nominal",
        "scale": {"domain": kinds, "range": [KINDS[name] for name in kinds]},
    }

    def text(field: str, down: int, **style: Any) -> dict[str, Any]:
        words = {"x": {"field": "middle", **x}, "y": {"field": "y", **y}, "text": {"field": field}}
        return {"mark": {"type": "text", "dy": down, **style}, "encoding": words}

    return {
        "width": width,
        "height": height,
        "data": {"values": boxes},
        "layer": [
            {
                "data": {"values": points},
                "mark": {"type": "line", "color": INK, "strokeWidth": 1.3},
                "encoding": {**at, "detail": {"field": "arrow"}, "order": {"field": "order"}},
            },
            {
                "data": {"values": ends},
                "mark": {
                    "type": "point",
                    "shape": "triangle-right",
                    "filled": True,
                    "size": 70,
                    "color": INK,
                    "opacity": 1,
                },
                "encoding": at,
            },
            {
                "mark": {"type": "rect", "cornerRadius": 6, "fillOpacity": 0.25, "strokeWidth": 1.5},
                "encoding": {
                    **at,
                    "x2": {"field": "x2"},
                    "y2": {"field": "y2"},
                    "fill": kind,
                    "stroke": kind,
                },
            },
            text("stage", 18, fontWeight="bold", fontSize=13),
            text("did", 36, fontSize=11),
            text("took", 53, fontSize=11, color=INK),
        ],
    }


def _kind(stage: str) -> str:
    return KIND_OF.get(stage, "tuning" if stage.startswith(TUNING) else "scores")


def _did(manifest: Manifest) -> str:
    main, steps, tokens = manifest.main_count, manifest.rows.get("steps"), tokens_of(manifest)
    parts = [] if main is None else [f"{count(main[1])} {main[0].rpartition('.')[2].replace('_', ' ')}"]
    if steps is not None:
        parts.append(f"{steps} steps")
    elif tokens:
        parts.append(f"{tokens / 1000:,.0f}k tokens")
    return ", ".join(parts)
