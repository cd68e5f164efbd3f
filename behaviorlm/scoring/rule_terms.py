"""What every decision rule is: log probabilities, scaled and shifted by behavior. The Bayes rule of the endpoint.

The endpoint is (anchor accuracy + tail macro recall) / 2, so whoever chooses b after x gains p(b | x) / Π_A in
expectation if b is an anchor (Π_A: the share of all anchors among what happens), and p(b | x) / (|T| π_b) if it is
one of the tail behaviors T whose recalls are averaged (π_b: its own share). The best choice is the largest of these for
each x alone, with p the true probability: a predictor tuned on another mix is first brought back, p · π / π_train.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

NOT_COUNTED = -10_000.0
"""In place of log 0: what gains nothing comes behind all that does, in the order of its probability. No predictor's
log probabilities are that far apart, and JSON has no infinity."""


@dataclass(frozen=True)
class Terms:
    """A rule for C behaviors: score = scale · log probability + shift; float64[C] each."""

    scale: Float64
    shift: Float64

    def scores(self, log_probabilities: NDArray[np.floating]) -> Float64:
        """What is ranked by, float64[n, C], of normalized log probabilities float[n, C]."""
        found = log_probabilities.astype(np.float64)
        found *= self.scale[None, :]  # positive, so that -inf stays
        found += self.shift[None, :]
        return found


def plain_terms(behaviors: int) -> Terms:
    """The most probable first."""
    return Terms(np.ones(behaviors), np.zeros(behaviors))


def adjusted_terms(prior: Float64, tau: float) -> Terms:
    """Log probability minus tau · prior; prior: log shares float64[C]."""
    return Terms(np.ones(len(prior)), -tau * prior)


def fitted_terms(
    prior: Float64, is_anchor: NDArray[np.bool_], *, tail_scale: float, tail_shift: float, tau: float
) -> Terms:
    """s / T_g + c_g − tau · prior as far as a choice can tell: only the ratio T_anchor / T_tail (`tail_scale`) and the
    difference of the shifts (`tail_shift`) change which is the largest, so those of anchors are 1 and 0.
    """
    return Terms(np.where(is_anchor, 1.0, tail_scale), np.where(is_anchor, 0.0, tail_shift) - tau * prior)


def bayes_shift(
    prior: Float64, mix: Float64 | None, is_anchor: NDArray[np.bool_], is_counted: NDArray[np.bool_]
) -> Float64:
    """What the Bayes rule of the endpoint adds to each log probability, float64[K].

    prior: natural log shares. mix: those of what the predictor was tuned on; None: the natural ones, or not known.
    is_counted bool[K]: tail behaviors whose recall counts; other tail behaviors gain nothing.
    """
    share = float(np.exp(prior[is_anchor]).sum())
    tail = is_counted & ~is_anchor
    back = np.zeros(len(prior)) if mix is None else prior - mix
    of_tail = np.where(tail, -np.log(max(int(tail.sum()), 1)) - prior, NOT_COUNTED)
    return back + np.where(is_anchor, -np.log(share) if share else 0.0, of_tail)
