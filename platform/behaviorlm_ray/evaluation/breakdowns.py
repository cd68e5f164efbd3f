"""Where predictors are right and where not: by history, by user, by confidence, by what is mistaken for what.

Everything here is counted from the outcomes on the test samples that the headline numbers come from. Users are told in
numbers only; no name of one is in it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from behaviorlm.metrics.outcomes import Outcomes
from behaviorlm_ray.evaluation.circumstances import Circumstances, Int64
from behaviorlm_ray.evaluation.examples import examples
from behaviorlm_ray.evaluation.predictors import ArmScores
from behaviorlm_ray.evaluation.samples import SampleFacts
from behaviorlm_ray.evaluation.user_spread import users, users_against

CLASS_STARTS = (0, 1, 2, 3, 4, 6, 8, 10, 12, 16, 24, 32, 50, 100, 200, 500, 1000)
"""Where classes of counts begin; the last has no end."""
COVERAGES = tuple(step / 20 for step in range(1, 21))
"""Shares of the samples, those that a predictor is surest of first."""
CONFUSED = 3
"""Wrong predictions that are named for each behavior."""


def breakdowns(
    found: Circumstances,
    facts: SampleFacts,
    outcomes: Mapping[str, Outcomes],
    subject: str,
    scores: ArmScores,
) -> dict[str, Any]:
    """What details.json holds of it but for confusions. outcomes: by model.

    subject: the model, one of `outcomes`, that users and examples are told of; scores: its predictor's.
    """
    return {
        "subject": subject,
        "test_samples": samples_fingerprint(facts.sample_ids),
        "slices": slices(found, outcomes),
        "coverage": {name: coverage(of) for name, of in outcomes.items()},
        "users": {name: users(found, of) for name, of in outcomes.items()},
        "users_against": users_against(found, outcomes, subject),
        "examples": examples(found.question, facts, outcomes[subject], scores.test()),
    }


def samples_fingerprint(ids: NDArray[np.uint8]) -> str:
    """Names the test samples, whatever their order and the model: runs with the same one can be compared by numbers.

    ids: theirs, uint8[n, 16].
    """
    ordered = np.sort(np.ascontiguousarray(ids).view(f"V{ids.shape[1]}").ravel()) if len(ids) else ids
    return hashlib.sha256(ordered.tobytes()).hexdigest()


def slices(found: Circumstances, outcomes: Mapping[str, Outcomes]) -> dict[str, list[dict[str, Any]]]:
    """Accuracy of every predictor by each circumstance: rows in order, only those that have samples."""
    by_class = {"history": count_classes(found.history), "known": count_classes(found.known)}
    divided: dict[str, tuple[NDArray, Sequence[str]]] = {
        **by_class,
        "repeat": (found.is_repeat.astype(np.int64), ("changes", "repeats")),
    }
    for name, texts in found.clock.items():
        values = sorted({text for text in texts if text is not None}, key=str)
        code = {value: number for number, value in enumerate(values)}
        divided[name] = (np.array([code.get(text, -1) for text in texts], np.int64), values)
    return {name: _rows(code, labels, found, outcomes) for name, (code, labels) in divided.items()}


def count_classes(counts: Int64) -> tuple[Int64, list[str]]:
    """The class of each count, int64[n], and what each class is called."""
    ends = [*(start - 1 for start in CLASS_STARTS[1:]), None]
    names = [
        f"{start}+" if end is None else str(start) if start == end else f"{start}–{end}"
        for start, end in zip(CLASS_STARTS, ends, strict=True)
    ]
    return np.searchsorted(CLASS_STARTS, counts, side="right") - 1, names


def confusions(of: Outcomes) -> list[list[list[int]]]:
    """For each behavior of the vocabulary, and last for the unseen, what was predicted in its place: [index, times]."""
    wrong = of.predicted != of.target
    target = np.where(of.target < 0, of.behaviors, of.target).astype(np.int64)[wrong]
    pairs, times = np.unique(target * of.behaviors + of.predicted[wrong], return_counts=True)
    result: list[list[list[int]]] = [[] for _ in range(of.behaviors + 1)]
    for place in np.lexsort((pairs, -times)):
        behavior, instead = divmod(int(pairs[place]), of.behaviors)
        if len(result[behavior]) < CONFUSED:
            result[behavior].append([instead, int(times[place])])
    return result


def coverage(of: Outcomes) -> list[dict[str, float]]:
    """How often a predictor is right where only its surest predictions are taken: threshold and precision.

    A threshold takes every prediction that is at least as sure, so a row's own coverage may be above what was asked
    for.
    """
    order = np.sort(of.confidence)[::-1]
    result = []
    for share in COVERAGES:
        threshold = float(order[max(round(share * len(of)), 1) - 1])
        taken = of.confidence >= threshold
        result.append(
            {
                "coverage": float(taken.mean()),
                "threshold": threshold,
                "samples": int(taken.sum()),
                "precision": float((of.rank[taken] == 0).mean()),
            }
        )
    return result


def _rows(
    code: Int64, labels: Sequence[str], found: Circumstances, outcomes: Mapping[str, Outcomes]
) -> list[dict[str, Any]]:
    result = []
    for number, label in enumerate(labels):
        members = code == number
        if members.any():
            result.append(
                {
                    "label": label,
                    "samples": int(members.sum()),
                    "groups": len(np.unique(found.groups[members])),
                    "tail": float(found.is_tail[members].mean()),
                    "accuracy": {
                        name: float((of.rank[members] == 0).mean()) for name, of in outcomes.items()
                    },
                }
            )
    return result
