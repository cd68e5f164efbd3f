"""Difficulty and selection held against the truth: what a measure orders by, what was chosen, what was learned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from behaviorlm.errors import DataError
from behaviorlm.files.data_only import data_only
from behaviorlm.timelines.sample_ids import id_keys, id_octets
from behaviorlm_lab.study.correlations import Values, within_behaviors
from behaviorlm_lab.study.learned import learned
from behaviorlm_lab.truth.oracle import world_oracle
from behaviorlm_ray import storage
from behaviorlm_ray.pipeline.prepare import open_log, prepare
from behaviorlm_ray.pipeline.run import Run
from behaviorlm_ray.pipeline.score import DIFFICULTY, score
from behaviorlm_ray.pipeline.select import ordering, select
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.pipeline.tune import SELECTION
from behaviorlm_ray.preparation.prepared_log import PreparedLog, gather, rows_of_ids, rows_of_split
from behaviorlm_ray.stages.runner import Runner
from behaviorlm_ray.stages.stage import Stage

MEASURES = ("nll", "rank", "margin", "excess", "reducible")

REFERENCE = "reference nll"
"""The NLL under the reference that `reducible` takes off: a model tuned on all behaviors of the other half."""

TARGETS = {
    "surprise": "-log p*",
    "learnable": "learnable",
    "left": "left",
    "learned": "learned",
    "learned_given_before": "learned, given the NLL before",
}
"""What a measure is held against, and its name in tables. surprise: -log p* given the window, what nobody could know;
learnable: the judge's own NLL + log p*, what the judge could still learn. On samples that B-Tuning was not tuned on,
left: the NLL after it + log p*, what it did not learn; learned: the fall of the NLL through it; given the NLL before:
their partial correlation. The NLL before is part of learnable and of learned, and of most measures: where it varies
much more than the rest, as inside a tail that A-Tuning has suppressed, these two correlate with it by construction."""


@dataclass(frozen=True)
class Judged:
    """A measure of n samples, and the NLL of the model that judged them; both float64[n], NaN where it judged none."""

    measure: Values
    nll: Values


@dataclass(frozen=True)
class ScoredSamples:
    """n training samples that were scored: ids uint8[n, 16], behaviors int[n], surprise -log p* float64[n]."""

    ids: NDArray[np.uint8]
    behavior: NDArray[np.integer]
    surprise: Values


def examine_selections(run: Run, runner: Runner, arms: Sequence[str]) -> dict[str, Any]:
    """For each arm, which has B-Tuning, {"scored", "selected"}: samples and mean true p, given the window, by group."""
    found = {}
    known: dict[str, ScoredSamples] = {}
    for arm in arms:
        of_arm = run.for_arm(arm)
        folder = str(runner.run(score(of_arm)).folder)
        if folder not in known:
            known[folder] = _scored_samples(of_arm, runner)
        found[arm] = mean_true_p(
            _log(of_arm, runner), known[folder], _selected(of_arm, runner, known[folder])
        )
    return found


def examine_measures(run: Run, runner: Runner, arms: Sequence[str], neutral: str) -> dict[str, Any]:
    """Every measure of the arms, held against the truth and what was learned, on the samples of the neutral arm.

    neutral: an arm whose selection is at random, so that what was left out is like what was taken. Scores its samples
    once more after its B-Tuning. Measures that only other arms have (reducible, those of other models) are joined by
    sample.
    """
    on_neutral = run.for_arm(neutral)
    samples = _scored_samples(on_neutral, runner)
    before = _table(runner, score(on_neutral))["nll"].to_numpy()
    after = joined(samples.ids, _table(runner, learned(on_neutral)), "nll")
    judged: dict[str, Judged] = {}
    for arm in (neutral, *arms):
        other = run.for_arm(arm)
        table = _table(runner, score(other))
        nll = joined(samples.ids, table, "nll")
        for measure in MEASURES:
            name = f"{measure}{judge_of(other.settings)}"
            if measure in table.column_names and name not in judged:
                judged[name] = Judged(joined(samples.ids, _ordered(table, measure), measure), nll)
        if "reducible" in table.column_names and REFERENCE not in judged:
            reference = nll - joined(samples.ids, table, "reducible")
            judged[REFERENCE] = Judged(reference, reference)
    vocabulary = _log(on_neutral, runner).vocabulary
    found = hold_against(
        samples,
        judged,
        before,
        after,
        _selected(on_neutral, runner, samples),
        vocabulary.names,
        vocabulary.is_anchor,
    )
    return {"on": neutral, **found}


def hold_against(
    samples: ScoredSamples,
    judged: Mapping[str, Judged],
    before: Values,
    after: Values,
    selected: NDArray[np.bool_],
    names: Sequence[str],
    is_anchor: NDArray[np.bool_],
) -> dict[str, Any]:
    """{"nll": means by group, "learned": mean fall of it, "correlations": {measure: {target: ...}}}; see `TARGETS`.

    before, after: the NLL before and after B-Tuning float64[n]; selected: bool[n], left out where what was learned
    counts. Correlations are those of `within_behaviors`.
    """
    everything = np.full(len(selected), True)
    learned = before - after
    correlations: dict[str, Any] = {}
    for name, of_judge in judged.items():
        targets: dict[str, tuple[Values, Values | None, NDArray[np.bool_]]] = {
            "surprise": (samples.surprise, None, everything),
            "learnable": (of_judge.nll - samples.surprise, None, everything),
            "left": (after - samples.surprise, None, ~selected),
            "learned": (learned, None, ~selected),
            "learned_given_before": (learned, before, ~selected),
        }
        correlations[name] = {
            target: within_behaviors(
                samples.behavior[chosen],
                names,
                is_anchor,
                of_judge.measure[chosen],
                values[chosen],
                None if given is None else given[chosen],
            )
            for target, (values, given, chosen) in targets.items()
        }
    groups = {"anchor": is_anchor[samples.behavior], "tail": ~is_anchor[samples.behavior]}
    return {
        "nll": {
            group: {"before": _mean(before[members]), "after, on others": _mean(after[members & ~selected])}
            for group, members in groups.items()
        },
        "learned": {"on selected": _mean(learned[selected]), "on others": _mean(learned[~selected])},
        "correlations": correlations,
    }


def overlaps(selections: Mapping[str, NDArray[np.bytes_]]) -> dict[str, dict[str, float]]:
    """{arm: {other: share of the arm's selected samples that the other selected as well}}; ids S16[n] of each arm."""
    return {
        arm: {
            other: float(np.isin(ids, others).mean()) if len(ids) else 0.0
            for other, others in selections.items()
            if other != arm
        }
        for arm, ids in selections.items()
    }


def examine_overlaps(run: Run, runner: Runner, arms: Sequence[str]) -> dict[str, Any]:
    """{"anchor" | "tail": `overlaps` of what the arms selected of that group}."""
    chosen: dict[str, dict[str, NDArray[np.bytes_]]] = {"anchor": {}, "tail": {}}
    for arm in arms:
        of_arm = run.for_arm(arm)
        table = _read(runner.run(select(of_arm)).folder / SELECTION)
        is_anchor = _log(of_arm, runner).vocabulary.is_anchor[table["behavior"].to_numpy()]
        keys = id_keys(id_octets(table["sample_id"]))
        chosen["anchor"][arm], chosen["tail"][arm] = keys[is_anchor], keys[~is_anchor]
    return {group: overlaps(selections) for group, selections in chosen.items()}


def joined(ids: NDArray[np.uint8], table: pa.Table, column: str) -> Values:
    """A column of a table in the order of `ids` uint8[n, 16], joined by its `sample_id`; NaN where it has none."""
    own, wanted = id_keys(id_octets(table["sample_id"])), id_keys(ids)
    order = np.argsort(own)
    place = np.minimum(np.searchsorted(own, wanted, sorter=order), len(own) - 1)
    rows = order[place]
    values = table[column].to_numpy().astype(np.float64)
    return np.where(own[rows] == wanted, values[rows], np.nan)


def judge_of(settings: RunSettings) -> str:
    """What a measure's name gets for the model that judges: nothing for the A-tuned one, where B-Tuning starts."""
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


def _log(run: Run, runner: Runner) -> PreparedLog:
    return open_log(runner.run(prepare(run)), run.settings)


def _scored_samples(run: Run, runner: Runner) -> ScoredSamples:
    log, table = _log(run, runner), _table(runner, score(run))
    truth = run.settings.evaluation.truth
    assert truth is not None
    ids = id_octets(table["sample_id"])
    rows = rows_of_ids(log, rows_of_split(log, "train"), ids)
    behavior = gather(log, rows, "behavior")
    if not np.array_equal(gather(log, rows, "sample_id"), ids):
        raise DataError(f"{runner.run(score(run)).folder}: difficulty is not in the order of the log")
    surprise = np.empty(len(behavior))
    for batch in world_oracle(truth).batches(log, rows, windowed=True):
        known = batch.probabilities[np.arange(len(batch.places)), behavior[batch.places]]
        surprise[batch.places] = -np.log(np.maximum(known, 1e-12))
    return ScoredSamples(ids, behavior, surprise)


def _selected(run: Run, runner: Runner, samples: ScoredSamples) -> NDArray[np.bool_]:
    chosen = _read(runner.run(select(run)).folder / SELECTION)
    return np.isin(id_keys(samples.ids), id_keys(id_octets(chosen["sample_id"])))


def _ordered(table: pa.Table, measure: str) -> pa.Table:
    """The table with the measure as selection orders by it."""
    values = pa.array(ordering(table, measure))
    return table.set_column(table.column_names.index(measure), measure, values)


def _mean(values: Values) -> float | None:
    return float(values.mean()) if len(values) else None


def _table(runner: Runner, stage: Stage) -> pa.Table:
    return _read(runner.run(stage).folder / DIFFICULTY)


def _read(place: storage.Location) -> pa.Table:
    return data_only(pq.ParquetFile(storage.local_copy(place)), place).read()
