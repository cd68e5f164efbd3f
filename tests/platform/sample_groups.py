"""The groups of samples by name, read from the parts as they are."""

import numpy as np

from behaviorlm_ray.preparation.prepared_log import PreparedLog, SampleRows


def group_names(log: PreparedLog, rows: SampleRows) -> np.ndarray:
    """The group of each sample, parts one after another; object [n]."""
    names = [
        np.asarray(part.table["group"].take(chosen).to_pylist(), dtype=object)
        for part, chosen in zip(log.parts, rows, strict=True)
    ]
    return np.concatenate(names) if names else np.zeros(0, dtype=object)
