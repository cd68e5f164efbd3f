"""Decision rules as an artifact stores them: what behaviors are ranked by, from log probabilities."""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from behaviorlm.config import Settings
from behaviorlm.scoring.rule_terms import NOT_COUNTED, Terms, adjusted_terms, fitted_terms


class PlainRule(Settings):
    """The most probable behavior comes first."""

    kind: Literal["plain"] = "plain"


class OwnMixRule(Settings):
    """The most probable behavior in the mix of few shots that the predictor was tuned on comes first."""

    kind: Literal["own_mix"] = "own_mix"
    shift: list[float] = Field(
        description="Of each behavior of the vocabulary, added to its log probability: what `to_natural` has added, "
        "taken away again."
    )


class LogitAdjusted(Settings):
    """Ranked by log probability minus tau times the log share among the training targets."""

    kind: Literal["logit_adjusted"] = "logit_adjusted"
    tau: float = Field(description="1 takes the prior out; below 0 it favors frequent behaviors.")


class BayesRule(Settings):
    """The best choice for the endpoint, (anchor accuracy + tail macro recall) / 2, if the probabilities are true."""

    kind: Literal["bayes"] = "bayes"
    shift: list[float] = Field(
        description="Of each behavior of the vocabulary, added to its log probability: log of natural share by share "
        "in the mix that the predictor was tuned on, less the log of the anchors' summed share, or of the own share by "
        "the share of what counts: a tail behavior counts as likely as it is among as many samples as validation had. "
        f"About {NOT_COUNTED:g} for one that cannot count, which comes last."
    )


class FittedRule(Settings):
    """Three numbers fitted on validation: ranked by log probability, of tail behaviors times `tail_scale` plus
    `tail_shift`, minus tau times the log share among the training targets.
    """

    kind: Literal["fitted"] = "fitted"
    tail_scale: float = Field(gt=0, description="Temperature of anchors by that of the tail.")
    tail_shift: float = Field(description="In nats; that of anchors is 0.")
    tau: float = Field(description="As of logit adjustment.")


DecisionRule = Annotated[
    PlainRule | OwnMixRule | LogitAdjusted | BayesRule | FittedRule, Field(discriminator="kind")
]


def rule_terms(
    rule: DecisionRule, prior: NDArray[np.float64], is_anchor: NDArray[np.bool_], ids: NDArray[np.integer]
) -> Terms:
    """The rule for C behaviors: log shares float64[C], bool[C], and each one's place in the vocabulary, -1 for none."""
    if isinstance(rule, LogitAdjusted):
        return adjusted_terms(prior, rule.tau)
    if isinstance(rule, BayesRule):
        return Terms(np.ones(len(ids)), np.append(rule.shift, NOT_COUNTED)[ids])
    if isinstance(rule, OwnMixRule):
        return Terms(np.ones(len(ids)), np.append(rule.shift, 0.0)[ids])
    if isinstance(rule, FittedRule):
        return fitted_terms(
            prior, is_anchor, tail_scale=rule.tail_scale, tail_shift=rule.tail_shift, tau=rule.tau
        )
    return Terms(np.ones(len(ids)), np.zeros(len(ids)))


def rule_in_words(rule: DecisionRule) -> str:
    """For people."""
    if isinstance(rule, LogitAdjusted):
        return f"logit-adjusted, tau {rule.tau:g}"
    if isinstance(rule, BayesRule):
        return "Bayes rule of the endpoint"
    if isinstance(rule, FittedRule):
        return f"fitted, tail scale {rule.tail_scale:.3g}, tail shift {rule.tail_shift:g}, tau {rule.tau:g}"
    return "plain" if isinstance(rule, PlainRule) else "plain, in the mix that it was tuned on"
