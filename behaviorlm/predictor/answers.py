"""Answers: from log probabilities to ranked behaviors under a decision rule. Pure; no model."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from behaviorlm.config import Settings
from behaviorlm.errors import DataError
from behaviorlm.log_files.identity import behavior_names
from behaviorlm.metrics.label_probabilities import normalize_label_scores
from behaviorlm.predictor.artifact import Artifact, Calibration, EventMapping
from behaviorlm.predictor.rules import DecisionRule, rule_terms
from behaviorlm.scoring.decision_rules import log_prior

Float64 = NDArray[np.float64]


class Answer(Settings):
    """One behavior that may come next."""

    behavior: str = Field(description="Its name.")
    id: int | None = Field(description="Its place in the vocabulary; null for a name given with the request.")
    probability: float = Field(
        description="How likely it is, among the candidates; over all of them these sum to 1."
    )
    group: Literal["anchor", "tail"] = Field(description="A new name is tail.")
    is_trained: bool = Field(description="Whether the log's training part had it.")
    score: float = Field(
        description="What it is ranked by: log probability before calibration, adjusted by the decision rule."
    )


class Contribution(Settings):
    """What one event of the history adds to the first answer."""

    event: int = Field(description="Its place in the history that was handed over, from 0.")
    behavior: str = Field(description="What happened.")
    probability_without: float = Field(description="Of the first answer, had this event not happened.")
    adds: float = Field(description="Probability minus that.")


class Prediction(Settings):
    """The answer to one request."""

    answers: list[Answer] = Field(description="The best first, under the decision rule.")
    abstains: bool = Field(description="Whether no answer is sure enough (min_probability).")
    events_given: int = Field(
        description="Usable events of the user, those that earlier_events tells of included."
    )
    events_used: int = Field(
        description="Events that the prediction rests on one by one, the last ones; a profile line and habits count "
        "earlier ones, too."
    )
    warnings: list[str] = Field(default=[], description="What was left out or not known.")
    contributions: list[Contribution] | None = Field(
        default=None,
        description="Where asked for: of the last `events_used` events. What habits and a profile line count of those "
        "before is in the probability, and is not taken apart.",
    )

    @property
    def behavior(self) -> str | None:
        """What comes next; None if it abstains."""
        return None if self.abstains else self.answers[0].behavior


@dataclass(frozen=True)
class Candidates:
    """What is asked about, and what of it may be answered.

    names: C distinct ones. ids: int64[C], each one's place in the vocabulary, -1 for new ones. prior: float64[C], log
    share among the training targets. is_anchor, is_trained, is_allowed: bool[C].
    """

    names: tuple[str, ...]
    ids: NDArray[np.int64]
    prior: Float64
    is_anchor: NDArray[np.bool_]
    is_trained: NDArray[np.bool_]
    is_allowed: NDArray[np.bool_]

    @cached_property
    def allowed(self) -> "Candidates":
        """Only those that may be answered."""
        kept = np.flatnonzero(self.is_allowed)
        if len(kept) == len(self.names):
            return self
        return Candidates(
            tuple(self.names[place] for place in kept.tolist()),
            self.ids[kept],
            self.prior[kept],
            self.is_anchor[kept],
            self.is_trained[kept],
            self.is_allowed[kept],
        )


def candidates(
    artifact: Artifact,
    allow: Sequence[str] | None = None,
    deny: Sequence[str] = (),
    new_names: Sequence[str] = (),
) -> Candidates:
    """The vocabulary and further names, of which only `allow`, without `deny`, may be answered.

    All are asked about, so that an answer is exactly what is said of all, given that it is one of those allowed. Raises
    DataError for names that are not known, for a new one that is, or one that a log would not have, and where nothing
    is left.
    """
    known = {name: place for place, name in enumerate(artifact.names)}
    new = [_clean(name, artifact.events) for name in _names("new_names", new_names)]
    taken = sorted(set(new) & known.keys())
    if taken or len(set(new)) < len(new):
        raise DataError(f"new_names: each must be there once and not in the vocabulary: {taken or new}")
    allowed = None if allow is None else set(_names("allow", allow))
    denied = set(_names("deny", deny))
    unknown = sorted(((allowed or set()) | denied) - known.keys() - set(new))
    if unknown:
        raise DataError(
            f"allow, deny: unknown behaviors {', '.join(map(repr, unknown[:8]))}; new ones are given as new_names"
        )
    names = (*artifact.names, *new)
    is_allowed = np.array(
        [(allowed is None or name in allowed) and name not in denied for name in names], bool
    )
    if not is_allowed.any():
        raise DataError("allow and deny leave no behavior to answer with")
    return Candidates(
        names,
        np.append(np.arange(len(known)), np.full(len(new), -1)),
        # of the whole vocabulary, so that a share does not depend on which new names there are
        np.append(log_prior(artifact.counts), np.full(len(new), _log_share_of_new(artifact.counts))),
        np.append(artifact.is_anchor, np.zeros(len(new), bool)),
        np.append(artifact.counts > 0, np.zeros(len(new), bool)),
        is_allowed,
    )


def calibrated(
    log_probabilities: Float64, is_anchor: NDArray[np.bool_], calibration: Calibration | None
) -> Float64:
    """Log probabilities float64[n, C] with those of each group rescaled, and normalized again; is_anchor bool[C]."""
    if calibration is None:
        return log_probabilities
    temperature = np.where(is_anchor, calibration.anchor_temperature, calibration.tail_temperature)
    shift = np.where(is_anchor, 0.0, calibration.tail_shift)
    return normalize_label_scores(log_probabilities / temperature[None, :] + shift[None, :])


def given_allowed(log_probabilities: Float64, chosen: Candidates) -> Float64:
    """Log probabilities of what may be answered, given that it is one of these; of all candidates float64[n, C]."""
    if chosen.is_allowed.all():
        return log_probabilities
    return normalize_label_scores(log_probabilities[:, chosen.is_allowed])


def decided(log_probabilities: Float64, chosen: Candidates, rule: DecisionRule) -> Float64:
    """What a rule ranks by, float64[n, C], of log probabilities before calibration."""
    return rule_terms(rule, chosen.prior, chosen.is_anchor, chosen.ids).scores(log_probabilities)


def ranked(log_probabilities: Float64, scores: Float64, chosen: Candidates, k: int) -> list[Answer]:
    """The first k of one request, by falling score; of equal ones the first of the vocabulary. Both float64[C]."""
    order = np.argsort(-scores, kind="stable")[:k]
    return [
        Answer(
            behavior=chosen.names[place],
            id=int(chosen.ids[place]) if chosen.ids[place] >= 0 else None,
            probability=float(np.exp(log_probabilities[place])),
            group="anchor" if chosen.is_anchor[place] else "tail",
            is_trained=bool(chosen.is_trained[place]),
            score=float(scores[place]),
        )
        for place in order.tolist()
    ]


def _log_share_of_new(counts: NDArray[np.int64]) -> float:
    """As `log_prior` has it for a behavior without a training target."""
    return float(-np.log(counts.sum() + len(counts)))


def _names(key: str, names: Sequence[str]) -> Sequence[str]:
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{key} must be a list of names, not {names!r:.100}")
    return names


def _clean(name: str, events: EventMapping) -> str:
    """In the one spelling that a log's behaviors have."""
    import pyarrow as pa

    try:
        text: str | None = behavior_names(pa.array([name], pa.string()), events.null_values).text[0].as_py()
    except UnicodeEncodeError:
        raise DataError(f"new_names: {name!r} holds half of a character") from None
    if text is None or len(text) > events.max_behavior_characters:
        raise DataError(
            f"new_names: {name!r:.200} is empty or longer than {events.max_behavior_characters} characters"
        )
    return text
