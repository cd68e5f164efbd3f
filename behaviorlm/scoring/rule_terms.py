"""What every decision rule is: log probabilities, scaled and shifted by behavior. The Bayes rule of the endpoint.

The endpoint is (anchor accuracy + tail macro recall) / 2, so whoever chooses b after x gains p(b | x) / Π_A in
expectation if b is an anchor (Π_A: the share of all anchors among what happens), and p(b | x) / (|T| π_b) if it is
one of the tail behaviors T whose recalls are averaged (π_b: its own share). The best choice is the largest of these for
each x alone, with p the true probability: a predictor tuned on another mix is first brought back, p · π / π_train.
Which recalls are averaged depends on which behaviors are among the samples. Of samples that are still to come only the
chance is known, c_b, and the gain is c_b p(b | x) / (π_b Σ c). Taken from the samples that the rule is judged by, T
would tell it some of their targets.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

NOT_COUNTED = -10_000.0
"""In place of log 0: what gains nothing comes behind all that does, in the order of its probability. No predictor's
log probabilities are that far apart, and JSON has no infinity."""

LEAST = float(np.finfo(np.float64).tiny)


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
    prior: Float64, mix: Float64 | None, is_anchor: NDArray[np.bool_], counts: NDArray[np.floating | np.bool_]
) -> Float64:
    """What the Bayes rule of the endpoint adds to each log probability, float64[K].

    prior: natural log shares. mix: those of what the predictor was tuned on; None: the natural ones, or not known.
    counts: how likely the recall of each behavior counts in the mean, float[K], or whether it does; a tail behavior
    whose recall cannot count gains nothing.
    """
    share = float(np.exp(prior[is_anchor]).sum())
    likely = np.where(is_anchor, 0.0, counts)
    back = np.zeros(len(prior)) if mix is None else prior - mix
    with np.errstate(divide="ignore"):
        of_tail = np.maximum(np.log(likely) - np.log(max(likely.sum(), LEAST)) - prior, NOT_COUNTED)
    return back + np.where(is_anchor, -np.log(share) if share else 0.0, of_tail)


def chance_to_count(shares: Float64, samples: int, minimum_targets: int) -> Float64:
    """How likely so many of the samples, or more, have each behavior as their target, float64[K], by Poisson's law.

    shares: of each, float64[K].
    """
    expected = shares * samples
    fewer, more, term = np.zeros(len(shares)), np.zeros(len(shares)), np.exp(-expected)
    for number in range(3 * minimum_targets + 60):  # what comes after is nothing where fewer are expected
        if number < minimum_targets:
            fewer += term
        else:
            more += term
        term = term * expected / (number + 1)
    # 1 - fewer is noise where it is small, and the rule compares small chances.
    return np.where(expected < minimum_targets, more, 1.0 - fewer)
