"""The true probabilities of samples in whole, for tests that look at all of them."""

from dataclasses import dataclass

import numpy as np

from behaviorlm_lab.truth.oracle import world_oracle
from behaviorlm_ray.evaluation.oracle import TruthSettings
from behaviorlm_ray.preparation.prepared_log import PreparedLog, SampleRows


@dataclass(frozen=True)
class WholeTruth:
    """p* float64 [n, K]: given everything observed before, and given the window."""

    whole: np.ndarray
    windowed: np.ndarray


def true_probabilities(log: PreparedLog, rows: SampleRows, settings: TruthSettings) -> WholeTruth:
    """All batches, one after another."""
    oracle = world_oracle(settings)
    return WholeTruth(
        *(
            np.concatenate([batch.probabilities for batch in oracle.batches(log, rows, windowed=windowed)])
            for windowed in (False, True)
        )
    )
