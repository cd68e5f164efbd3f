"""The map of behaviors: what a model makes of each name, before and after tuning, on the same two axes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from behaviorlm.errors import ConfigError
from behaviorlm.model.adapters import load_trained
from behaviorlm.model.base_model import load_model
from behaviorlm_lab.paper.drawn import GROUPS, Drawn, Row
from behaviorlm_lab.paper.finished import PaperRun, methods_of
from behaviorlm_lab.paper.logs import group_of, known_behaviors
from behaviorlm_lab.paper.settings import ExhibitSettings
from behaviorlm_ray import storage
from behaviorlm_ray.pipeline.run import MODEL
from behaviorlm_ray.preparation.prepared_log import PreparedLog
from behaviorlm_ray.report.drawing import labels

Floats = NDArray[np.float64]


def behavior_map(exhibit: ExhibitSettings, runs: Sequence[PaperRun]) -> Drawn:
    """A row a model and behavior: where it lies on the first two principal axes of all models' states together.

    The state of a name is the model's last hidden state after reading the name alone, to its last token: our choice.
    """
    [run] = runs
    log = _log_of(run)
    asked = methods_of(run, exhibit)
    states = [name_states(run, method.shown.predictor, log) for method in asked]
    places, explained = principal(np.concatenate(states))
    counted = {row.behavior: row for row in known_behaviors(run)}
    rows: list[Row] = []
    for number, method in enumerate(asked):
        for index, name in enumerate(log.vocabulary.names):
            x, y = places[number * len(log.vocabulary) + index]
            row = counted[name]
            rows.append(
                {
                    "method": method.label,
                    "behavior": name,
                    "group": group_of(row),
                    "training targets": row.training_targets,
                    "x": float(x),
                    "y": float(y),
                }
            )
    note = (
        f"The two axes hold {explained.sum():.0%} of what varies among the states ({explained[0]:.0%} and "
        f"{explained[1]:.0%}); they are the same in each panel. What else differs is not seen here."
    )
    return Drawn(rows, _map(rows), (note,))


def name_states(run: PaperRun, arm: str, log: PreparedLog) -> Floats:
    """The last hidden state of each behavior's name, float64[K, width], by the model of an arm."""
    way = run.way_to(arm)
    tuning = run.settings.all_arms[arm].tuning
    config = run.settings.model.model_copy(update={"dtype": "float32"})
    if tuning == "untuned":
        model: Any = load_model(config)
    else:
        tuned = next(one for one in way if any(path.startswith(f"{MODEL}/") for path in one.files))
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
    [prepared] = [one for one in run.manifests.values() if one.stage == "prepare"]
    return PreparedLog(run.folder_of(prepared), run.settings.prompt, run.settings.few_shot)


def _map(rows: Sequence[Row]) -> dict[str, Any]:
    """A panel a model."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    shown = [
        {**row, "label": label}
        for method in methods
        for of in [[row for row in rows if row["method"] == method]]
        for row, label in zip(of, labels([str(row["behavior"]) for row in of], 20), strict=True)
    ]
    axis = {"labels": False, "ticks": False, "domain": False}
    ends = {
        name: {
            "field": name,
            "type": "quantitative",
            "title": f"principal axis {number}",
            "scale": {"zero": False, "padding": 30},
            "axis": axis,
        }
        for number, name in enumerate(("x", "y"), 1)
    }
    color = {
        "field": "group",
        "type": "nominal",
        "scale": {"domain": list(GROUPS), "range": list(GROUPS.values())},
    }
    return {
        "data": {"values": shown},
        "facet": {"column": {"field": "method", "type": "nominal", "sort": methods, "title": None}},
        "spec": {
            "width": 430,
            "height": 430,
            "encoding": {**ends, "color": color},
            "layer": [
                {"mark": {"type": "point", "filled": True, "size": 50, "opacity": 1}},
                {
                    "mark": {"type": "text", "align": "left", "dx": 6, "fontSize": 10},
                    "encoding": {"text": {"field": "label"}},
                },
            ],
        },
    }
