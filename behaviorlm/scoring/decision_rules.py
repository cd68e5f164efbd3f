"""What is done with label scores before ranking: logit adjustment, the PMI form, the mean per token."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from behaviorlm.errors import DataError
from behaviorlm.metrics.endpoint import anchor_accuracy, tail_macro_recall
from behaviorlm.metrics.outcomes import Choices
from behaviorlm.scoring.config import CHOICE_TAUS, TAIL_MINIMUM_TARGETS


@dataclass(frozen=True)
class AnchorTail:
    """What serves both groups: anchor accuracy, tail macro recall, and their mean, our choice of an objective.

    A part without a target to count is None, and so is then the objective: it is never another quantity.
    """

    anchor_accuracy: float | None
    tail_macro_recall: float | None
    objective: float | None


@dataclass(frozen=True)
class TauChoice:
    """The strength of logit adjustment chosen on validation, and the whole grid it was chosen from, by rising tau.

    chosen: with that tau; plain: without adjustment; their objectives are None where there was nothing to choose by.
    """

    tau: float
    chosen: AnchorTail
    plain: AnchorTail
    grid: tuple[tuple[float, AnchorTail], ...]


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


def adjusted_choices(
    label_scores: NDArray[np.floating], prior: NDArray[np.floating], taus: Sequence[float]
) -> NDArray[np.int32]:
    """The behavior ranked first with each strength of logit adjustment; int32[n, taus], of label scores float[n, K]."""
    choices = np.empty((len(label_scores), len(taus)), np.int32)
    for number, tau in enumerate(taus):
        choices[:, number] = logit_adjustment(label_scores, prior, tau).argmax(axis=1)
    return choices


def anchor_tail_objective(
    choices: Choices, is_anchor: NDArray[np.bool_], minimum_targets: int = TAIL_MINIMUM_TARGETS
) -> AnchorTail:
    """Both parts and their mean. is_anchor: bool[K].

    Tail macro recall is over the tail behaviors with at least `minimum_targets` targets, whatever their number.
    """
    anchor = anchor_accuracy(choices, is_anchor)
    tail = tail_macro_recall(choices, is_anchor, minimum_targets)
    return AnchorTail(anchor, tail, None if anchor is None or tail is None else (anchor + tail) / 2)


def choose_tau(
    plain: Choices,
    adjusted: NDArray[np.integer],
    is_anchor: NDArray[np.bool_],
    grid: Sequence[float] = CHOICE_TAUS,
    minimum_targets: int = TAIL_MINIMUM_TARGETS,
) -> TauChoice:
    """The tau of the grid with the best `anchor_tail_objective` on validation samples; of equal ones the nearest to 0.

    Where the objective is None there is nothing to choose by, and tau is the grid's nearest to 0. plain: the choices
    without adjustment; adjusted: int[n, taus] those with each tau of the grid (`adjusted_choices`); is_anchor bool[K].
    Raises DataError without validation samples.
    """
    if len(plain.target) == 0:
        raise DataError("tau is chosen on validation samples, and there are none; raise split.validation")
    found = [
        (
            float(tau),
            anchor_tail_objective(replace(plain, predicted=predicted), is_anchor, minimum_targets),
        )
        for tau, predicted in zip(grid, adjusted.T, strict=True)
    ]
    found.sort(key=lambda pair: (abs(pair[0]), pair[0]))
    values = [-1.0 if of_tau.objective is None else of_tau.objective for _, of_tau in found]
    tau, chosen = found[values.index(max(values))]  # the first of equal ones is the nearest to 0
    without = anchor_tail_objective(plain, is_anchor, minimum_targets)
    return TauChoice(tau, chosen, without, tuple(sorted(found, key=lambda pair: pair[0])))
