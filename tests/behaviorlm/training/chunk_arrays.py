"""Chunks one by one, for tests that make them up, as the arrays that a schedule takes."""

from collections.abc import Sequence

import numpy as np

from behaviorlm.training.chunks import Chunk, Chunks


def chunks_of(listed: Sequence[Chunk]) -> Chunks:
    sizes = np.array([len(chunk.rows) for chunk in listed], np.int64)
    end = np.cumsum(sizes)
    return Chunks(
        np.array([chunk.part for chunk in listed], np.int32),
        np.array([chunk.timeline[0] for chunk in listed], np.int32),
        np.array([chunk.timeline[1] for chunk in listed], np.int64),
        end - sizes,
        end,
        np.concatenate([np.zeros(0, np.int64), *(chunk.rows for chunk in listed)]),
    )
