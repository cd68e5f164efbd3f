"""The samples that models are measured on: which they are, and what is known of each."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from behaviorlm.errors import DataError
from behaviorlm_ray.preparation.prepared_log import PreparedLog, SampleRows, count, gather, group_names


@dataclass(frozen=True)
class EvaluatedSamples:
    """The validation and test samples that every model is asked about."""

    validation: SampleRows
    test: SampleRows


@dataclass(frozen=True)
class SampleFacts:
    """Of n test samples: targets int32[n] (-1: unseen in training), is_repeat bool[n], groups object[n].

    validation: targets of the validation samples, int32[v].
    """

    targets: NDArray[np.int32]
    is_repeat: NDArray[np.bool_]
    groups: NDArray[np.object_]
    validation: NDArray[np.int32]

    def counts(self, is_anchor: NDArray[np.bool_]) -> dict[str, Any]:
        """How many samples there are of each kind. is_anchor: bool[K]."""
        anchors = np.append(is_anchor, False)[self.targets]
        return {
            "all": len(self.targets),
            "anchor": int(anchors.sum()),
            "tail": int((~anchors).sum()),
            "unseen": int((self.targets < 0).sum()),
            "repeats": int(self.is_repeat.sum()),
            "changes": int((~self.is_repeat).sum()),
            "validation": len(self.validation),
            "groups": len(np.unique(self.groups)),
        }


def sample_facts(log: PreparedLog, samples: EvaluatedSamples) -> SampleFacts:
    """Read from the prepared log. Raises DataError without test samples."""
    if not count(samples.test):
        raise DataError("there are no samples to measure; check the split and its shares")
    return SampleFacts(
        gather(log, samples.test, "behavior"),
        gather(log, samples.test, "is_repeat"),
        group_names(log, samples.test),
        gather(log, samples.validation, "behavior"),
    )
