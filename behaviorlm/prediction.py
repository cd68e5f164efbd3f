"""What is done with label scores before ranking: logit adjustment, the PMI form, the mean per token."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behaviorlm.errors import DataError
from behaviorlm.metrics import measure

# Our choice: 0 (no adjustment) to 1.5, beyond full correction of the prior, which reaches past the best on
# real logs.
TAU_GRID = tuple(step / 20 for step in range(31))


@dataclass(frozen=True)
class TauChoice:
    """The strength of logit adjustment chosen on validation, and the whole grid it was chosen from.

    objective: with that tau; plain: without adjustment.
    """

    tau: float
    objective: float
    plain: float
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


def anchor_tail_objective(
    label_scores: NDArray[np.floating], targets: NDArray[np.integer], is_anchor: NDArray[np.bool_]
) -> dict[str, float | None]:
    """`{"anchor_accuracy", "tail_macro_recall", "objective"}`: what serves both groups, and their mean. Our choice.

    Tail macro recall is over behaviors with at least 10 targets; where there are none, over all of them; and a
    group without any target (None) is left out of the mean. label_scores float[n, K] with n > 0, targets
    int[n] (negative = unseen), is_anchor bool[K].
    """
    measured = measure(label_scores, targets, is_anchor)
    tail = measured["tail"]["macro_recall_at_least_10"]
    if tail is None:
        tail = measured["tail"]["macro_recall"]
    anchor = measured["anchor"]["accuracy"]
    parts = [value for value in (anchor, tail) if value is not None]
    return {"anchor_accuracy": anchor, "tail_macro_recall": tail, "objective": sum(parts) / len(parts)}


def choose_tau(
    label_scores: NDArray[np.floating],
    targets: NDArray[np.integer],
    is_anchor: NDArray[np.bool_],
    prior: NDArray[np.floating],
    grid: Sequence[float] = TAU_GRID,
) -> TauChoice:
    """The tau of the grid with the best `anchor_tail_objective` on validation samples; of equal ones the smallest.

    label_scores float[n, K], targets int[n] (negative = unseen), is_anchor bool[K], prior float[K]
    (`log_prior`). Raises DataError without validation samples.
    """
    if len(targets) == 0:
        raise DataError("tau is chosen on validation samples, and there are none; raise split.validation")
    rows: list[dict[str, float | None]] = [
        {
            "tau": float(tau),
            **anchor_tail_objective(logit_adjustment(label_scores, prior, tau), targets, is_anchor),
        }
        for tau in sorted(grid)
    ]
    best = max(
        rows, key=lambda row: row["objective"] or 0.0
    )  # max keeps the first, which has the smallest tau
    plain = anchor_tail_objective(label_scores, targets, is_anchor)["objective"] or 0.0
    return TauChoice(float(best["tau"] or 0.0), float(best["objective"] or 0.0), plain, tuple(rows))
