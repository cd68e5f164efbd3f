"""What is done with label scores before ranking: logit adjustment, the PMI form, the mean per token."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behaviorlm.errors import DataError
from behaviorlm.metrics import measure_outcomes, outcomes
from behaviorlm.metrics.outcomes import Outcomes
from behaviorlm.scoring.config import CHOICE_TAUS, TAIL_MINIMUM_TARGETS


@dataclass(frozen=True)
class TauChoice:
    """The strength of logit adjustment chosen on validation, and the whole grid it was chosen from.

    objective: with that tau; plain: without adjustment; both None where nothing could be chosen by.
    """

    tau: float
    objective: float | None
    plain: float | None
    grid: tuple[dict[str, float | None], ...]


def log_prior(training_counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """Log share of each behavior among the training targets, float64[K]; counts raised by one, our choice."""
    raised = training_counts.astype(np.float64) + 1.0
    return np.log(raised / raised.sum())


def logit_adjustment(
    label_scores: NDArray[np.floating], prior: NDArray[np.floating], tau: float
) -> NDArray[np.float32]:
    """`label_scores − tau · prior`, float32[n, K]; prior is a log, float[K]; tau 1 takes all of it out."""
    if label_scores.shape[1:] != prior.shape:
        raise DataError(
            f"label scores of shape {label_scores.shape} do not fit a prior of shape {prior.shape}"
        )
    return (label_scores - tau * prior[None, :]).astype(np.float32)


def pointwise_mutual_information(
    label_scores: NDArray[np.floating], scores_without_history: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Label scores minus those of the same labels without history ([K], or [n, K] with the context kept)."""
    if scores_without_history.shape not in (label_scores.shape, label_scores.shape[1:]):
        raise DataError(
            f"scores without history of shape {scores_without_history.shape} do not fit {label_scores.shape}"
        )
    return (label_scores - scores_without_history).astype(np.float32)


def per_token_mean(
    label_scores: NDArray[np.floating], label_lengths: NDArray[np.integer]
) -> NDArray[np.float32]:
    """Label scores divided by the labels' lengths in tokens, int[K], terminator included.

    For untuned models.
    """
    if label_lengths.shape != label_scores.shape[1:] or label_lengths.min() < 1:
        raise DataError(f"label lengths must be {label_scores.shape[1:]} positive numbers of tokens")
    return (label_scores / label_lengths[None, :]).astype(np.float32)


def tail_macro_recall(
    model_outcomes: Outcomes, is_anchor: NDArray[np.bool_], minimum_targets: int
) -> float | None:
    """Mean recall of the tail behaviors with at least that many targets; None if there is none. is_anchor bool[K]."""
    behaviors = model_outcomes.behaviors
    seen = model_outcomes.target >= 0
    hit = seen & (model_outcomes.predicted == model_outcomes.target)
    targets = np.bincount(model_outcomes.target[seen], minlength=behaviors)
    hits = np.bincount(model_outcomes.target[hit], minlength=behaviors)
    counted = ~is_anchor & (targets >= max(minimum_targets, 1))
    return float((hits[counted] / targets[counted]).mean()) if counted.any() else None


def anchor_tail_objective(
    label_scores: NDArray[np.floating],
    targets: NDArray[np.integer],
    is_anchor: NDArray[np.bool_],
    minimum_targets: int = TAIL_MINIMUM_TARGETS,
) -> dict[str, float | None]:
    """`{"anchor_accuracy", "tail_macro_recall", "objective"}`: what serves both groups, and their mean. Our choice.

    Tail macro recall is over the tail behaviors with at least `minimum_targets` targets, whatever their number. A part
    without a target to count is None, and so is then the objective: it is never another quantity. label_scores
    float[n, K] with n > 0, targets int[n] (negative = unseen), is_anchor bool[K].
    """
    found = outcomes(label_scores, targets)
    anchor = measure_outcomes(found, is_anchor)["anchor"]["accuracy"]
    tail = tail_macro_recall(found, is_anchor, minimum_targets)
    mean = None if anchor is None or tail is None else (anchor + tail) / 2
    return {"anchor_accuracy": anchor, "tail_macro_recall": tail, "objective": mean}


def choose_tau(
    label_scores: NDArray[np.floating],
    targets: NDArray[np.integer],
    is_anchor: NDArray[np.bool_],
    prior: NDArray[np.floating],
    grid: Sequence[float] = CHOICE_TAUS,
    minimum_targets: int = TAIL_MINIMUM_TARGETS,
) -> TauChoice:
    """The tau of the grid with the best `anchor_tail_objective` on validation samples; of equal ones the nearest to 0.

    Where the objective is None there is nothing to choose by, and tau is the grid's nearest to 0. label_scores
    float[n, K], targets int[n] (negative = unseen), is_anchor bool[K], prior float[K] (`log_prior`). Raises DataError
    without validation samples.
    """
    if len(targets) == 0:
        raise DataError("tau is chosen on validation samples, and there are none; raise split.validation")

    def objective(scores: NDArray[np.floating]) -> dict[str, float | None]:
        return anchor_tail_objective(scores, targets, is_anchor, minimum_targets)

    taus = sorted((float(tau) for tau in grid), key=lambda tau: (abs(tau), tau))
    rows = [objective(logit_adjustment(label_scores, prior, tau)) for tau in taus]
    values = [-1.0 if row["objective"] is None else row["objective"] for row in rows]
    best = values.index(max(values))  # the first of equal ones is the nearest to 0
    table = sorted(zip(taus, rows, strict=True), key=lambda pair: pair[0])
    return TauChoice(
        taus[best],
        rows[best]["objective"],
        objective(label_scores)["objective"],
        tuple({"tau": tau, **row} for tau, row in table),
    )
