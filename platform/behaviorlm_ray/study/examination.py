"""Difficulty and selection held against the truth: what a measure orders by, what was chosen, what was learned."""

from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.stats import spearmanr

from behaviorlm_ray import storage
from behaviorlm_ray.pipeline import Pipeline
from behaviorlm_ray.prepared import PreparedLog, gather, rows_of_ids, rows_of_split
from behaviorlm_ray.stage_bodies import SELECTION
from behaviorlm_ray.stages import StageOutput
from behaviorlm_ray.truth import true_probabilities

MEASURES = ("nll", "rank", "margin", "excess", "reducible")
MINIMUM_SAMPLES = 10
"""Samples that a behavior must have for a correlation of its own (our choice)."""

Values = NDArray[np.float64]


def examine(pipeline: Pipeline) -> dict[str, Any]:
    """Of an arm with B-Tuning on a synthetic log. Runs the scoring of the same samples after B-Tuning.

    "selected" and "scored": mean true p of the targets, given the window, by group. "measures": for each measure its
    rank correlation (Spearman) with -log p*, and with what was learned, the fall of the NLL, on samples that were not
    selected, for all samples together ("all") and as the mean over behaviors, weighted by their samples, inside
    anchor and tail behaviors ("anchor", "tail"); null where there are too few.
    """
    truth = pipeline.settings.evaluation.truth
    scored, chosen, after = pipeline.difficulty(), pipeline.selected(), pipeline.learned()
    assert truth and all(isinstance(stage, StageOutput) for stage in (scored, chosen, after))
    log = pipeline.log()
    before = _table(scored)
    ids = before.column("sample_id").combine_chunks()
    rows = rows_of_ids(log, rows_of_split(log, "train"), _bytes(ids))
    behavior = gather(log, rows, "behavior")
    assert (behavior == before["behavior"].to_numpy()).all(), "the table has the order of the log"
    known = true_probabilities(log, rows, truth).windowed
    surprise = -np.log(np.maximum(known[np.arange(len(behavior)), behavior], 1e-12))
    picked = pq.read_table(storage.local_copy(_folder(chosen) / SELECTION))["sample_id"].combine_chunks()
    selected = np.isin(_keys(ids), _keys(picked))
    learned = before["nll"].to_numpy() - _table(after)["nll"].to_numpy()
    found = {}
    for name in MEASURES:
        if name in before.column_names:
            measure = before[name].to_numpy()
            found[name] = {
                "with the truth": _correlations(log, behavior, measure, surprise),
                "with what was learned": _correlations(
                    log, behavior[~selected], measure[~selected], learned[~selected]
                ),
            }
    return {
        "scored": _mean_p(log, behavior, surprise),
        "selected": _mean_p(log, behavior[selected], surprise[selected]),
        "learned": {
            "on selected": float(learned[selected].mean()),
            "on others": float(learned[~selected].mean()) if (~selected).any() else None,
        },
        "measures": found,
    }


def _mean_p(log: PreparedLog, behavior: NDArray[np.integer], surprise: Values) -> dict[str, Any]:
    """Number of samples and mean p* of their targets, all and by group."""
    is_anchor = log.vocabulary.is_anchor[behavior]
    result: dict[str, Any] = {}
    for group, members in (
        ("all", np.full(len(behavior), True)),
        ("anchor", is_anchor),
        ("tail", ~is_anchor),
    ):
        mean = float(np.exp(-surprise[members]).mean()) if members.any() else None
        result[group] = {"samples": int(members.sum()), "mean_true_p": mean}
    return result


def _correlations(
    log: PreparedLog, behavior: NDArray[np.integer], first: Values, second: Values
) -> dict[str, float | None]:
    """Spearman's over all, and the weighted mean over the behaviors of each group."""
    result: dict[str, float | None] = {"all": _spearman(first, second)}
    for group, wanted in (("anchor", True), ("tail", False)):
        values, weights = [], []
        for index in np.flatnonzero(log.vocabulary.is_anchor == wanted):
            members = behavior == index
            value = _spearman(first[members], second[members])
            if value is not None:
                values.append(value)
                weights.append(int(members.sum()))
        result[group] = float(np.average(values, weights=weights)) if values else None
    return result


def _spearman(first: Values, second: Values) -> float | None:
    """None for too few samples, or where one of the two does not vary."""
    if len(first) < MINIMUM_SAMPLES or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(spearmanr(first, second).statistic)


def _folder(stage: Any) -> Any:
    return stage.folder


def _table(stage: Any) -> Any:
    return pq.read_table(storage.local_copy(_folder(stage) / "difficulty.parquet"))


def _bytes(ids: Any) -> NDArray[np.uint8]:
    """Sample ids as uint8 [n, 16]."""
    return np.frombuffer(b"".join(ids.to_pylist()), np.uint8).reshape(-1, 16)


def _keys(ids: Any) -> NDArray[np.bytes_]:
    return np.ascontiguousarray(_bytes(ids)).view("V16")[:, 0]
