"""The samples that models are measured on: which they are, and what is known of each."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from behaviorlm.errors import DataError
from behaviorlm.scoring.decision_rules import log_prior
from behaviorlm.scoring.rule_fitting import fold_of
from behaviorlm.timelines.config import FewShotConfig
from behaviorlm.timelines.few_shot import used_shares
from behaviorlm.timelines.vocabulary import Vocabulary
from behaviorlm_ray.preparation.prepared_log import PreparedLog, SampleRows, count, gather, group_codes

WITHOUT_VALIDATION = (
    "there is no validation sample, so nothing is chosen by any: no model is shown under a decision rule (+adjusted, "
    "+bayes, +fitted), and none is recommended; raise split.validation, or mark some events as validation in "
    "events.split_column"
)
"""What a comparison leaves out without validation samples."""


@dataclass(frozen=True)
class EvaluatedSamples:
    """The validation and test samples that every model is asked about."""

    validation: SampleRows
    test: SampleRows


@dataclass(frozen=True)
class SampleFacts:
    """Of n test samples: targets int32[n] (-1: unseen in training), is_repeat bool[n], groups int64[n], a number for
    each group by the order of their names, and sample_ids uint8[n, 16].

    vocabulary: what targets are indexes of; few_shot: how many of them were used. Of the validation samples: targets,
    int32[v], the fold of each, int8[v], and its group by number, int64[v].
    """

    vocabulary: Vocabulary
    few_shot: FewShotConfig
    targets: NDArray[np.int32]
    is_repeat: NDArray[np.bool_]
    groups: NDArray[np.int64]
    sample_ids: NDArray[np.uint8]
    validation: NDArray[np.int32]
    validation_folds: NDArray[np.int8]
    validation_groups: NDArray[np.int64]

    @cached_property
    def validation_weights(self) -> NDArray[np.float64]:
        """How many samples each validation sample stands for where few shots thin their tail, float64[v]."""
        return 1 / np.append(used_shares(self.vocabulary, self.few_shot), 1.0)[self.validation]

    @cached_property
    def prior(self) -> NDArray[np.float64]:
        """Log shares of the behaviors in the whole log's training, what adjustment takes out; float64[K]."""
        return log_prior(self.vocabulary.counts)

    def to_natural(self, mix: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
        """What brings log probabilities from the mix of few shots to the log's own prior: float64[K], to be added
        before they are normalized. None where all samples were used, or the mix is not known.
        """
        return None if self.few_shot.uses_all or mix is None else self.prior - mix


def sample_facts(log: PreparedLog, samples: EvaluatedSamples) -> SampleFacts:
    """Read from the prepared log. Raises DataError without test samples."""
    if not count(samples.test):
        raise DataError("there are no samples to measure; check the split and its shares")
    names, of_validation = group_codes(log, samples.validation)
    return SampleFacts(
        log.vocabulary,
        log.few_shot,
        gather(log, samples.test, "behavior"),
        gather(log, samples.test, "is_repeat"),
        group_codes(log, samples.test)[1],
        gather(log, samples.test, "sample_id"),
        gather(log, samples.validation, "behavior"),
        fold_of(np.asarray(names.to_pylist(), object))[of_validation],
        of_validation,
    )
