"""Difficulty and selection held against the truth: what a measure orders by, what was chosen, what was learned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from behaviorlm.errors import DataError
from behaviorlm_ray import storage
from behaviorlm_ray.pipeline import Pipeline
from behaviorlm_ray.prepared import PreparedLog, gather, rows_of_ids, rows_of_split
from behaviorlm_ray.stage_bodies import SELECTION
from behaviorlm_ray.stages import StageOutput
from behaviorlm_ray.study.correlations import Values, within_behaviors
from behaviorlm_ray.truth import true_probabilities

MEASURES = ("nll", "rank", "margin", "excess", "reducible")

TARGETS = {
    "surprise": "-log p*",
    "learnable": "learnable",
    "learned": "learned",
    "learned_given_surprise": "learned, given -log p*",
}
"""What a measure is held against, and its name in tables. surprise: -log p* given the window, what nobody could know;
learnable: nll + log p*, what the model could still learn; learned: the fall of the NLL through B-Tuning on samples
that it was not tuned on; given -log p*: their partial correlation. The last two have the NLL before in them, as some of
the measures do."""


@dataclass(frozen=True)
class ScoredSamples:
    """n training samples that were scored: ids uint8[n, 16], behaviors int[n], surprise -log p* float64[n]."""

    ids: NDArray[np.uint8]
    behavior: NDArray[np.integer]
    surprise: Values


def examine_selections(pipeline: Pipeline, arms: Sequence[str]) -> dict[str, Any]:
    """For each arm, which has B-Tuning, {"scored", "selected"}: samples and mean true p, given the window, by group."""
    found = {}
    known: dict[str, ScoredSamples] = {}
    for arm in arms:
        variant = pipeline.variant(arm)
        folder = str(_output(variant.difficulty()).folder)
        if folder not in known:
            known[folder] = _scored_samples(variant)
        found[arm] = mean_true_p(variant.log(), known[folder], _selected(variant, known[folder]))
    return found


def examine_measures(pipeline: Pipeline, arms: Sequence[str], neutral: str) -> dict[str, Any]:
    """Every measure of the arms, held against the truth and what was learned, on the samples of the neutral arm.

    neutral: an arm whose selection is at random, so that what was left out is like what was taken. Scores its samples
    once more after its B-Tuning. Measures that only other arms have (reducible, those of other models) are joined by
    sample.
    """
    variant = pipeline.variant(neutral)
    samples = _scored_samples(variant)
    before = _table(variant.difficulty())["nll"].to_numpy()
    after = joined(samples.ids, _table(variant.learned()), "nll")
    judged: dict[str, Values] = {}
    for arm in (neutral, *arms):
        other = pipeline.variant(arm)
        table = _table(other.difficulty())
        for measure in MEASURES:
            name = f"{measure}{judge_of(other)}"
            if measure in table.column_names and name not in judged:
                judged[name] = joined(samples.ids, table, measure)
    vocabulary = variant.log().vocabulary
    found = hold_against(
        samples,
        judged,
        before - after,
        _selected(variant, samples),
        vocabulary.names,
        vocabulary.is_anchor,
        before,
    )
    return {"on": neutral, **found}


def hold_against(
    samples: ScoredSamples,
    judged: Mapping[str, Values],
    learned: Values,
    selected: NDArray[np.bool_],
    names: Sequence[str],
    is_anchor: NDArray[np.bool_],
    before: Values,
) -> dict[str, Any]:
    """{"learned": mean fall of the NLL in nats, "correlations": {measure: {target: ...}}}, see `TARGETS`.

    judged: float64[n] for each measure; learned: float64[n]; selected: bool[n], left out where what was learned counts;
    before: the NLL before B-Tuning float64[n]. Correlations are those of `within_behaviors`.
    """
    everything = np.full(len(selected), True)
    targets = {
        "surprise": (samples.surprise, None, everything),
        "learnable": (before - samples.surprise, None, everything),
        "learned": (learned, None, ~selected),
        "learned_given_surprise": (learned, samples.surprise, ~selected),
    }
    correlations: dict[str, Any] = {}
    for name, measure in judged.items():
        correlations[name] = {
            target: within_behaviors(
                samples.behavior[chosen],
                names,
                is_anchor,
                measure[chosen],
                values[chosen],
                None if given is None else given[chosen],
            )
            for target, (values, given, chosen) in targets.items()
        }
    return {
        "learned": {
            "on selected": float(learned[selected].mean()) if selected.any() else None,
            "on others": float(learned[~selected].mean()) if (~selected).any() else None,
        },
        "correlations": correlations,
    }


def joined(ids: NDArray[np.uint8], table: pa.Table, column: str) -> Values:
    """A column of a table in the order of `ids` uint8[n, 16], joined by its `sample_id`; NaN where it has none."""
    own, wanted = _keys(_id_bytes(table)), _keys(ids)
    order = np.argsort(own)
    place = np.minimum(np.searchsorted(own, wanted, sorter=order), len(own) - 1)
    rows = order[place]
    values = table[column].to_numpy().astype(np.float64)
    return np.where(own[rows] == wanted, values[rows], np.nan)


def judge_of(pipeline: Pipeline) -> str:
    """What a measure's name gets for the model that judges: nothing for the A-tuned one, where B-Tuning starts."""
    settings = pipeline.settings
    source = {"start": "", "base": ", by the base", "cross_fit": ", cross-fitted"}[settings.difficulty.source]
    start = ", one-stage" if settings.b_tuning_from == "one_stage" and source != ", by the base" else ""
    return source + start


def mean_true_p(log: PreparedLog, samples: ScoredSamples, selected: NDArray[np.bool_]) -> dict[str, Any]:
    """{"scored" | "selected": {"all" | "anchor" | "tail": {"samples", "mean_true_p"}}}; selected: bool[n]."""
    is_anchor = log.vocabulary.is_anchor[samples.behavior]
    groups = {"all": np.full(len(is_anchor), True), "anchor": is_anchor, "tail": ~is_anchor}

    def of(members: NDArray[np.bool_]) -> dict[str, Any]:
        mean = float(np.exp(-samples.surprise[members]).mean()) if members.any() else None
        return {"samples": int(members.sum()), "mean_true_p": mean}

    return {
        "scored": {group: of(members) for group, members in groups.items()},
        "selected": {group: of(members & selected) for group, members in groups.items()},
    }


def _scored_samples(pipeline: Pipeline) -> ScoredSamples:
    log, table = pipeline.log(), _table(pipeline.difficulty())
    truth = pipeline.settings.evaluation.truth
    assert truth is not None
    ids = _id_bytes(table)
    rows = rows_of_ids(log, rows_of_split(log, "train"), ids)
    behavior = gather(log, rows, "behavior")
    if not np.array_equal(gather(log, rows, "sample_id"), ids):
        raise DataError(f"{_output(pipeline.difficulty()).folder}: difficulty is not in the order of the log")
    known = true_probabilities(log, rows, truth).windowed
    surprise = -np.log(np.maximum(known[np.arange(len(behavior)), behavior], 1e-12))
    return ScoredSamples(ids, behavior, surprise)


def _selected(pipeline: Pipeline, samples: ScoredSamples) -> NDArray[np.bool_]:
    chosen = pq.read_table(storage.local_copy(_output(pipeline.selected()).folder / SELECTION))
    return np.isin(_keys(samples.ids), _keys(_id_bytes(chosen)))


def _table(stage: Any) -> pa.Table:
    return pq.read_table(storage.local_copy(_output(stage).folder / "difficulty.parquet"))


def _output(stage: Any) -> StageOutput:
    assert isinstance(stage, StageOutput)
    return stage


def _id_bytes(table: pa.Table) -> NDArray[np.uint8]:
    """Sample ids as uint8 [n, 16]."""
    return np.frombuffer(b"".join(table["sample_id"].to_pylist()), np.uint8).reshape(-1, 16)


def _keys(ids: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    return np.ascontiguousarray(ids).view("S16")[:, 0]
