"""Exhibits from the manifests of stages: the framework as it ran, and what each method cost."""

from collections.abc import Mapping, Sequence
from typing import Any

from behaviorlm.scoring.model_names import arm_of
from behaviorlm_lab.paper.drawn import COLORS, Drawn, Row
from behaviorlm_lab.paper.finished import PaperRun, methods_of
from behaviorlm_lab.paper.settings import ExhibitSettings
from behaviorlm_ray.report.wording import count, duration
from behaviorlm_ray.stages.manifests import Manifest

SHOWN = "ab_tuned"
"""The arm whose stages are the framework."""
TUNING = ("a_tune", "b_tune", "one_stage", "thinned")
BOX_WIDTH, BOX_HEIGHT, GAP_X, GAP_Y = 150, 64, 60, 34
"""Pixels."""
KINDS = {"data": COLORS[5], "tuning": COLORS[4], "scoring": COLORS[2], "choice": COLORS[3]}
KIND_OF = {"prepare": "data", "conversations": "data", "select": "choice", "draw": "choice"}


def framework(exhibit: ExhibitSettings, runs: Sequence[PaperRun]) -> Drawn:
    """A row a stage of A+B: what it reads of other stages, and what its manifest says it did."""
    [run] = runs
    way = run.way_to(SHOWN)
    labels = {one.content_hash: one.stage for one in way}
    rows: list[Row] = [
        {
            "stage": one.stage,
            "reads": ", ".join(sorted({labels[of] for of in one.inputs.values() if of in labels})),
            "what": None if one.main_count is None else one.main_count[0],
            "rows": None if one.main_count is None else one.main_count[1],
            "steps": one.rows.get("steps"),
            "tokens": _tokens(one),
            "seconds": one.duration_seconds,
        }
        for one in sorted(way, key=lambda one: (_depth(one, run), one.stage))
    ]
    places = _places(way, run)
    note = "Drawn from the manifests of one run; an arrow that follows from others is left out."
    return Drawn(rows, _boxes(way, run, places), (note,))


def cost(exhibit: ExhibitSettings, runs: Sequence[PaperRun]) -> Drawn:
    """A row a method with a model: all that its scores came of, shared stages counted for each."""
    [run] = runs
    rows: list[Row] = []
    for method in methods_of(run, exhibit):
        arm = arm_of(method.shown.predictor)
        if arm not in run.settings.evaluation.arms:
            continue
        way = run.way_to(arm)
        tuned = [one for one in way if one.stage.startswith(TUNING)]
        scored = [one for one in way if one not in tuned and _tokens(one)]
        rows.append(
            {
                "method": method.label,
                "predictor": method.shown.model,
                "stages": len(way),
                "tuning steps": sum(one.rows.get("steps", 0) for one in tuned),
                "samples tuned on": sum(one.rows.get("samples", 0) for one in tuned),
                "tokens tuned on": sum(_tokens(one) or 0 for one in tuned),
                "tokens scored": sum(_tokens(one) or 0 for one in scored),
                "seconds of tuning": sum(one.duration_seconds for one in tuned),
                "seconds of all": sum(one.duration_seconds for one in way),
            }
        )
    note = (
        "Seconds are wall time on the machine that ran, start-up included; whatever else ran there is in them. Tokens and "
        "steps can be compared, seconds only roughly."
    )
    return Drawn(rows, None, (note,))


def _tokens(manifest: Manifest) -> int | None:
    return int(manifest.cost["tokens"]) if manifest.cost.get("tokens") else None


def _before(manifest: Manifest, run: PaperRun) -> dict[str, Manifest]:
    """The stages that it reads, by the hash of their content."""
    return {of: run.manifests[of] for of in manifest.inputs.values() if of in run.manifests}


def _depth(manifest: Manifest, run: PaperRun) -> int:
    return 1 + max((_depth(earlier, run) for earlier in _before(manifest, run).values()), default=-1)


def _needed(manifest: Manifest, run: PaperRun) -> list[str]:
    """What it reads but what follows from the rest: the transitive reduction."""
    before = _before(manifest, run)
    follows = {later.content_hash for one in before for later in run.before(one) if later.content_hash != one}
    return [of for of in before if of not in follows]


def _places(way: Sequence[Manifest], run: PaperRun) -> Mapping[str, tuple[float, float]]:
    """The left upper corner of each stage's box: a column a depth, the boxes of a column in the middle of the height."""
    columns: dict[int, list[str]] = {}
    for one in sorted(way, key=lambda one: one.stage):
        columns.setdefault(_depth(one, run), []).append(one.content_hash)
    most = max(map(len, columns.values()))
    return {
        content: (depth * (BOX_WIDTH + GAP_X), (place + (most - len(column)) / 2) * (BOX_HEIGHT + GAP_Y))
        for depth, column in columns.items()
        for place, content in enumerate(column)
    }


def _boxes(
    way: Sequence[Manifest], run: PaperRun, places: Mapping[str, tuple[float, float]]
) -> dict[str, Any]:
    boxes = [
        {
            "kind": KIND_OF.get(one.stage, "tuning" if one.stage.startswith(TUNING) else "scoring"),
            "x": places[one.content_hash][0],
            "x2": places[one.content_hash][0] + BOX_WIDTH,
            "y": places[one.content_hash][1],
            "y2": places[one.content_hash][1] + BOX_HEIGHT,
            "middle": places[one.content_hash][0] + BOX_WIDTH / 2,
            "stage": one.stage,
            "did": _did(one),
            "took": duration(one.duration_seconds),
        }
        for one in way
    ]
    arrows = [_arrow(places[of], places[one.content_hash]) for one in way for of in _needed(one, run)]
    width, height = (max(box[end] for box in boxes) for end in ("x2", "y2"))
    x = {"type": "quantitative", "axis": None, "scale": {"domain": [0, width], "nice": False}}
    y = {"type": "quantitative", "axis": None, "scale": {"domain": [height, 0], "nice": False}}
    between = {
        "x": {"field": "x", **x},
        "y": {"field": "y", **y},
        "x2": {"field": "x2"},
        "y2": {"field": "y2"},
    }
    colors = {"domain": list(KINDS), "range": list(KINDS.values())}
    kind = {"field": "kind", "type": "nominal", "scale": colors}
    texts = [
        _text("stage", 18, {"fontWeight": "bold", "fontSize": 13}, x, y),
        _text("did", 36, {"fontSize": 11}, x, y),
        _text("took", 53, {"fontSize": 11, "color": "#57606a"}, x, y),
    ]
    head = {
        "type": "point",
        "shape": "triangle-right",
        "filled": True,
        "size": 70,
        "color": "#57606a",
        "opacity": 1,
    }
    return {
        "width": width,
        "height": height,
        "data": {"values": boxes},
        "layer": [
            {
                "data": {"values": arrows},
                "mark": {"type": "rule", "color": "#57606a", "strokeWidth": 1.3},
                "encoding": between,
            },
            {
                "data": {"values": arrows},
                "mark": head,
                "encoding": {"x": {"field": "x2", **x}, "y": {"field": "y2", **y}},
            },
            {
                "mark": {"type": "rect", "cornerRadius": 6, "fillOpacity": 0.25, "strokeWidth": 1.5},
                "encoding": {**between, "fill": kind, "stroke": {**kind, "legend": None}},
            },
            *texts,
        ],
    }


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> dict[str, float]:
    """From the right side of a box to the left one of a later."""
    return {
        "x": start[0] + BOX_WIDTH,
        "y": start[1] + BOX_HEIGHT / 2,
        "x2": end[0] - 6,
        "y2": end[1] + BOX_HEIGHT / 2,
    }


def _text(
    field: str, down: int, style: dict[str, Any], x: dict[str, Any], y: dict[str, Any]
) -> dict[str, Any]:
    """A line of text in the middle of each box."""
    return {
        "mark": {"type": "text", "dy": down, **style},
        "encoding": {"x": {"field": "middle", **x}, "y": {"field": "y", **y}, "text": {"field": field}},
    }


def _did(manifest: Manifest) -> str:
    main, steps, tokens = manifest.main_count, manifest.rows.get("steps"), _tokens(manifest)
    parts = [] if main is None else [f"{count(main[1])} {main[0].rpartition('.')[2]}"]
    if steps is not None:
        parts.append(f"{steps} steps")
    elif tokens is not None:
        parts.append(f"{tokens / 1000:,.0f}k tokens")
    return ", ".join(parts)
