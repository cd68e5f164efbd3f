"""A part that is too large is cut into pieces that are held at once: none is larger than asked for."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from behaviorlm_ray.preparation.pieces import cut
from tests.behaviorlm.timelines.test_samples import mapping


@pytest.mark.parametrize("seed", range(5))
def test_no_piece_of_whole_users_is_larger_than_asked_for_and_each_event_is_in_one(
    seed: int, tmp_path: Path
) -> None:
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 40, 60)
    users = random.permutation(np.repeat(np.arange(60), sizes))
    events = pa.table({"user": pa.array(users).cast(pa.string()), "order": np.arange(len(users))})
    pieces = [list(piece.segments()) for piece in cut(events, 40, mapping(), tmp_path)]
    assert all(len(segments) == 1 for segments in pieces)
    lengths = [len(segment) for segments in pieces for segment in segments]
    assert max(lengths) <= 40 and sum(lengths) == len(events)
    assert len(lengths) <= 2 * -(-len(events) // 40)  # any two neighbors are more than one piece holds
    whose = [set(segment["user"].to_pylist()) for segments in pieces for segment in segments]
    assert sum(map(len, whose)) == len(set().union(*whose)) == 60
