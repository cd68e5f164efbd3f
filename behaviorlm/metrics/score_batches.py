"""Label scores in batches, and the few numbers that are kept of each sample; no scores of all samples are held."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from behaviorlm.errors import DataError
from behaviorlm.files.scratch import scratch_arrays
from behaviorlm.metrics.label_probabilities import require_label_scores
from behaviorlm.metrics.outcomes import Outcomes, outcomes, probability_of
from behaviorlm.metrics.score_summary import ScoreSummary, summarize_scores

BATCH_BYTES = 16 * 2**20
"""Label scores of a batch at most, but of one sample at least: what is made of them takes a few times as much."""

Arrays = dict[str, NDArray]
"""Columns of what is kept, by name; each has one row a sample."""


@dataclass(frozen=True)
class ScoreBatch:
    """Label scores float32[b, K] of some of n samples; places: which ones, int64[b], each below n."""

    places: NDArray[np.int64]
    label_scores: NDArray[np.float32]


@dataclass(frozen=True)
class Form:
    """A further way to rank what a predictor says.

    scores: what a batch is ranked by, float[b, K]. is_decision: it only decides, so that the confidence of what is
    chosen is the probability that the predictor itself gives it; else the scores are those of another predictor.
    """

    scores: Callable[[ScoreBatch], NDArray[np.floating]]
    is_decision: bool = False


@dataclass(frozen=True)
class Kept:
    """What is kept of a predictor's label scores.

    outcomes, summary: of the scores themselves. forms: outcomes under each further decision rule, by its name.
    choices: what else is chosen on each sample, int32[n, c]; None: nothing.
    """

    outcomes: Outcomes
    summary: ScoreSummary
    forms: dict[str, Outcomes]
    choices: NDArray[np.int32] | None


def rows_per_batch(behaviors: int) -> int:
    """Samples whose label scores fit into a batch."""
    return max(1, BATCH_BYTES // (4 * behaviors))


def keep(batches: Iterable[ScoreBatch], samples: int, reduce: Callable[[ScoreBatch], Arrays]) -> Arrays:
    """Batches reduced to arrays with one row a sample, in the order of the samples' places; large ones lie in a file.

    Raises DataError where a sample is missing or there twice.
    """
    kept: Arrays = {}
    seen = np.zeros(samples, np.int8)
    for batch in batches:
        reduced = reduce(batch)
        if not kept:
            wanted = {name: ((samples, *of.shape[1:]), of.dtype) for name, of in reduced.items()}
            kept = scratch_arrays(wanted)
        for name, values in reduced.items():
            kept[name][batch.places] = values
        np.add.at(seen, batch.places, 1)
    if (seen != 1).any():
        place = int(np.flatnonzero(seen != 1)[0])
        raise DataError(f"sample {place} of {samples} is predicted {seen[place]} times")
    return kept


def first_choices(batch: ScoreBatch, own_mix: NDArray[np.float64] | None = None) -> NDArray[np.int32]:
    """The behavior ranked first, int32[b]. Raises DataError for scores that cannot be ranked.

    own_mix: float64[K], added to the scores; None: nothing.
    """
    require_label_scores(batch.label_scores, None, batch.places)
    ranked_by = batch.label_scores if own_mix is None else batch.label_scores + own_mix
    return ranked_by.argmax(axis=1).astype(np.int32)


def keep_predictions(
    batches: Iterable[ScoreBatch],
    targets: NDArray[np.int32],
    behaviors: int,
    forms: Mapping[str, Form] | None = None,
    choices: Callable[[ScoreBatch], NDArray[np.int32]] | None = None,
    own_mix: NDArray[np.float64] | None = None,
) -> Kept:
    """What is kept of all n samples, in one pass, for targets int32[n] (-1: unseen in training). own_mix: float64[K],
    added to the scores where they are ranked without a rule; None: nothing.
    """
    plain_form = Form(lambda batch: batch.label_scores)
    if own_mix is not None:
        plain_form = Form(lambda batch: batch.label_scores + own_mix, is_decision=True)
    ranked: dict[str, Form] = {"plain": plain_form, **(forms or {})}

    def reduce(batch: ScoreBatch) -> Arrays:
        of_batch = targets[batch.places]
        arrays: Arrays = {}
        for name, form in ranked.items():
            found = outcomes(form.scores(batch), of_batch, batch.places)
            if form.is_decision:
                found = replace(found, confidence=probability_of(batch.label_scores, found.predicted))
            arrays |= {f"{name}.{one}": getattr(found, one) for one in ("predicted", "rank", "confidence")}
        arrays |= vars(summarize_scores(batch.label_scores, of_batch))
        return arrays if choices is None else arrays | {"choices": choices(batch)}

    arrays = keep(batches, len(targets), reduce)
    plain, *others = (
        Outcomes(
            targets,
            arrays[f"{form}.predicted"],
            arrays[f"{form}.rank"],
            arrays[f"{form}.confidence"],
            behaviors,
        )
        for form in ranked
    )
    summary = ScoreSummary(*(arrays[field.name] for field in fields(ScoreSummary)))
    return Kept(plain, summary, dict(zip(forms or {}, others, strict=True)), arrays.get("choices"))
