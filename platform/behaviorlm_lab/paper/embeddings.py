"""The map of behaviors: what a model makes of each name, before and after tuning, on two principal axes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from behaviorlm.errors import ConfigError
from behaviorlm.model.adapters import load_trained
from behaviorlm.model.base_model import load_model
from behaviorlm_lab.paper.drawn import GROUPS, Drawn, Row, series
from behaviorlm_lab.paper.finished import PaperRun, methods_of
from behaviorlm_lab.paper.logs import group_of, known_behaviors
from behaviorlm_lab.paper.messages import quoted
from behaviorlm_lab.paper.settings import ExhibitSettings
from behaviorlm_ray import storage
from behaviorlm_ray.pipeline.run import MODEL
from behaviorlm_ray.preparation.prepared_log import PreparedLog
from behaviorlm_ray.report.drawing import labels

Floats = NDArray[np.float64]
Box = tuple[float, float, float, float]

PANEL = 460
"""Pixels of a side of a panel."""
NEIGHBORS = 5
LETTERS = 10
"""Pixels of a name's height."""


def behavior_map(exhibit: ExhibitSettings, runs: Sequence[PaperRun]) -> Drawn:
    """A row a model and behavior: where it lies on the first two principal axes of the model's states.

    The state of a name is the model's last hidden state after reading the name alone, to its last token: our choice.
    """
    [run] = runs
    log = _log_of(run)
    counted = {row.behavior: row for row in known_behaviors(run)}
    rows: list[Row] = []
    held, near = [], []
    methods = methods_of(run, exhibit)
    for method in methods:
        states = name_states(run, method.shown.predictor, log)
        near.append(neighbors(states))
        places, explained = principal(states)
        held.append(f"{explained.sum():.0%} ({method.label})")
        for name, (x, y) in zip(log.vocabulary.names, places.tolist(), strict=True):
            row = counted[name]
            what = {"behavior": name, "group": group_of(row), "training targets": row.training_targets}
            rows.append({"method": method.label, **what, "x": x, "y": y})
    note = (
        f"Each panel has axes of its own, which hold {', '.join(held)} of what varies among the states. Names that "
        "would lie over others are left out of the picture; all are in the table."
    )
    kept = np.mean([len(one & other) / NEIGHBORS for one, other in zip(near[0], near[-1], strict=True)])
    by_chance = NEIGHBORS / max(len(near[0]) - 1, 1)
    message = (
        f"Of the {NEIGHBORS} behaviors that are nearest to each by the angle of their states, {kept:.0%} are the same "
        f"for {quoted(methods[0].label)} and {quoted(methods[-1].label)}; by chance it would be {by_chance:.0%}."
    )
    return Drawn(rows, _map(rows), (note,), message if len(methods) > 1 else "")


def neighbors(states: Floats) -> list[set[int]]:
    """The places of the NEIGHBORS others that are nearest to each by cosine, of states less their mean."""
    centered = states - states.mean(axis=0)
    unit = centered / np.maximum(np.linalg.norm(centered, axis=1, keepdims=True), 1e-12)
    likeness = unit @ unit.T
    np.fill_diagonal(likeness, -np.inf)
    return [set(row[:NEIGHBORS].tolist()) for row in np.argsort(-likeness, axis=1, kind="stable")]


def name_states(run: PaperRun, arm: str, log: PreparedLog) -> Floats:
    """The last hidden state of each behavior's name, float64[K, width], by the model of an arm."""
    way = run.way_to(arm)
    tuning = run.settings.all_arms[arm].tuning
    config = run.settings.model.model_copy(update={"dtype": "float32"})
    if tuning == "untuned":
        model: Any = load_model(config)
    else:
        tuned = next(one for one in reversed(way) if any(path.startswith(f"{MODEL}/") for path in one.files))
        model = load_trained(config, storage.local_copy(run.folder_of(tuned) / MODEL))
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model.base_model
    with torch.inference_mode():
        states = [
            decoder(input_ids=torch.from_numpy(np.asarray(ids, np.int64))[None]).last_hidden_state[0, -1]
            for ids in log.prompt.label_ids
        ]
    return np.stack([state.double().numpy() for state in states])


def principal(states: Floats) -> tuple[Floats, Floats]:
    """Places on the first two principal axes, float64[n, 2], each axis pointing to its largest place, and the share of
    the variance that each holds. Raises ConfigError for fewer than three states.
    """
    if len(states) < 3:
        raise ConfigError(f"a map needs three behaviors, not {len(states)}")
    centered = states - states.mean(axis=0)
    left, values, _ = np.linalg.svd(centered, full_matrices=False)
    places = left[:, :2] * values[:2]
    largest = np.abs(places).argmax(axis=0)
    places *= np.sign(places[largest, [0, 1]])
    return places, values[:2] ** 2 / (values**2).sum()


def _log_of(run: PaperRun) -> PreparedLog:
    return PreparedLog(run.folder_of(run.stage("prepare")), run.settings.prompt, run.settings.few_shot)


def _map(rows: Sequence[Row]) -> dict[str, Any]:
    """A panel a model."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    shown: list[Row] = []
    for method in methods:
        of = [row for row in rows if row["method"] == method]
        at = _pixels(np.array([(row["x"], row["y"]) for row in of]))
        named = labels([str(row["behavior"]) for row in of], 22)
        for row, (x, y), (label, side) in zip(of, at.tolist(), _sides(at, named), strict=True):
            shown.append({**row, "x": x, "y": y, "label": label, "side": side})
    axis = {"labels": False, "ticks": False, "grid": False}
    ends = {
        name: {
            "field": name,
            "type": "quantitative",
            "title": f"principal axis {number}",
            "scale": {"domain": [0, PANEL], "nice": False},
            "axis": axis,
        }
        for number, name in enumerate(("x", "y"), 1)
    }
    colors = {"domain": list(GROUPS), "range": list(GROUPS.values())}
    texts = [
        {
            "transform": [{"filter": {"field": "side", "equal": side}}],
            "mark": {"type": "text", "align": side, "dx": 6 if side == "left" else -6, "fontSize": LETTERS},
            "encoding": {"text": {"field": "label"}},
        }
        for side in ("left", "right")
    ]
    return {
        "data": {"values": shown},
        "facet": {"column": {"field": "method", "type": "nominal", "sort": methods, "title": None}},
        "spec": {
            "width": PANEL,
            "height": PANEL,
            "encoding": {**ends, "color": {"field": "group", "type": "nominal", "scale": colors}},
            "layer": [
                {
                    "mark": {"type": "point", "filled": True, "size": 50, "opacity": 0.85},
                    "encoding": series("group", list(GROUPS), "shape"),
                },
                *texts,
            ],
        },
    }


def _pixels(places: Floats) -> Floats:
    """Places within a panel, with room for the names at its sides."""
    low, high = places.min(axis=0), places.max(axis=0)
    room = np.array([PANEL / 6, PANEL / 20])
    found: Floats = room + (places - low) / np.maximum(high - low, 1e-12) * (PANEL - 2 * room)
    return found


def _sides(at: Floats, named: Sequence[str]) -> list[tuple[str, str]]:
    """For each name the side of its point that its text is aligned to, "left" or "right"; "" where both are taken."""
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in at.tolist()]
    found = []
    for (x, y), name in zip(at.tolist(), named, strict=True):
        width = 0.56 * LETTERS * len(name)
        boxes = {
            "left": (x + 6, y - LETTERS / 2, x + 6 + width, y + LETTERS / 2),
            "right": (x - 6 - width, y - LETTERS / 2, x - 6, y + LETTERS / 2),
        }
        side = next((side for side, box in boxes.items() if _is_free(box, taken)), "")
        taken += [boxes[side]] if side else []
        found.append((name, side))
    return found


def _is_free(box: Box, taken: Sequence[Box]) -> bool:
    """Whether a box (left, low, right, high) lies within a panel and over none of the others."""
    left, low, right, high = box
    over = any(
        left < other_right and other_left < right and low < other_high and other_low < high
        for other_left, other_low, other_right, other_high in taken
    )
    return not over and left >= 0 and right <= PANEL
