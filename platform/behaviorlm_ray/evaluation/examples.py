"""A few test samples in full: what came before, what a predictor expected, what came. And a model's loss on validation.

Both read label scores, which `breakdowns` does without. The samples are drawn by their ids, not picked by hand.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from behaviorlm.metrics.label_probabilities import normalize_label_scores
from behaviorlm.metrics.outcomes import Outcomes
from behaviorlm.metrics.score_batches import ScoreBatch, keep
from behaviorlm.timelines.sample_ids import id_words, uniform_keys
from behaviorlm_ray.evaluation.circumstances import Question
from behaviorlm_ray.evaluation.predictors import ArmScores
from behaviorlm_ray.evaluation.samples import SampleFacts

EACH = 3
"""Examples of each kind: an anchor or a tail behavior came, and the choice was right or wrong."""
EXPECTED = 3
"""Behaviors that a predictor ranks first and that are named."""
_SEED = 5


def examples(
    question: Callable[[int], Question], facts: SampleFacts, of: Outcomes, batches: Iterable[ScoreBatch]
) -> list[dict[str, Any]]:
    """Test samples with their histories, the same number of each kind as far as there are so many.

    question: reads the sample at a place. of: what was chosen. batches: label scores of the same predictor before any
    rule, for what it ranks first. Users are not told.
    """
    chosen = _drawn(facts, of)
    ranked = _first(batches, chosen)
    names, is_anchor = facts.vocabulary.names, facts.vocabulary.is_anchor
    result = []
    for place in chosen:
        asked, target = question(int(place)), int(facts.targets[place])
        result.append(
            {
                "history": asked.history,
                "events_seen": asked.events_seen,
                "context": asked.context,
                "expected": [
                    {"behavior": names[behavior], "probability": value}
                    for behavior, value in ranked[int(place)]
                ],
                "chosen": names[of.predicted[place]],
                "came": asked.came,
                "is_anchor": bool(target >= 0 and is_anchor[target]),
                "is_unseen": target < 0,
                "rank": int(of.rank[place]) + 1 if target >= 0 else None,
            }
        )
    return result


def validation_losses(
    scores: Mapping[str, ArmScores], facts: SampleFacts
) -> dict[str, dict[str, float | None]]:
    """The mean loss of each model on the validation samples, in nats, for all, anchor and tail targets.

    It is what tuning minimizes of a sample: minus the log probability of the behavior's name and its end. Targets that
    training has not seen are left out, for they have no score.
    """
    targets, is_anchor = facts.validation, facts.vocabulary.is_anchor
    seen = targets >= 0
    groups = {"all": seen, "anchor": seen & is_anchor[targets], "tail": seen & ~is_anchor[targets]}
    result = {}
    for name, of_arm in scores.items():
        if not len(targets):
            continue

        def reduce(batch: ScoreBatch) -> dict[str, NDArray]:
            own = targets[batch.places]
            return {"loss": -batch.label_scores[np.arange(len(own)), own].astype(np.float64)}

        loss = keep(of_arm.validation(), len(targets), reduce)["loss"]
        result[name] = {
            group: float(loss[members].mean()) if np.isfinite(loss[members]).all() and members.any() else None
            for group, members in groups.items()
        }
    return result


def _drawn(facts: SampleFacts, of: Outcomes) -> NDArray[np.int64]:
    """Places of the samples: of each kind the first in an order drawn by the samples' ids."""
    high, low = id_words(facts.sample_ids)
    order = np.lexsort((low, high, uniform_keys(high, low, _SEED)))
    anchor, right = np.append(facts.vocabulary.is_anchor, False)[facts.targets], of.rank == 0
    kinds = [(~anchor, right), (~anchor, ~right), (anchor, right), (anchor, ~right)]
    drawn = [order[(group & hit)[order]][:EACH] for group, hit in kinds]
    return np.concatenate(drawn).astype(np.int64)


def _first(batches: Iterable[ScoreBatch], chosen: NDArray[np.int64]) -> dict[int, list[tuple[int, float]]]:
    """Of each chosen sample the behaviors ranked first, with their probability."""
    found = {}
    for batch in batches:
        for row in np.flatnonzero(np.isin(batch.places, chosen)):
            values = np.exp(normalize_label_scores(batch.label_scores[row : row + 1])[0])
            best = np.argsort(-values, kind="stable")[:EXPECTED]
            found[int(batch.places[row])] = [(int(at), float(values[at])) for at in best]
    return found
