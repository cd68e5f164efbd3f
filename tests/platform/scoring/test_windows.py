"""Windows in arrays and batches of them, against lists put together one by one."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from behaviorlm_ray.preparation.prepared_log import rows_of_split
from behaviorlm_ray.scoring.windows import batch_table, windows_of
from tests.platform.preparation.test_prepared_log import LENGTHS, random_log


@given(LENGTHS, st.integers(0, 1000), st.integers(1, 5))
def test_windows_and_batches_are_those_of_plain_lists(
    lengths: list[list[int]], seed: int, together: int
) -> None:
    log = random_log(seed, lengths)
    random = np.random.default_rng(seed)
    rows = [chosen[random.random(len(chosen)) < 0.6] for chosen in rows_of_split(log, "train")]
    rows[0] = rows[0][:0] if seed % 3 == 0 else rows[0]
    plain = [
        (number, window.tolist())
        for number, (part, chosen) in enumerate(zip(log.parts, rows, strict=True))
        for window in part.windows(chosen)
    ]
    windows = windows_of(log, rows)
    assert list(windows.named()) == [(part, tuple(window)) for part, window in plain]
    is_left = random.random(len(plain)) < 0.5
    batch = (np.arange(len(plain)) // together)[is_left]
    left: dict[int, list[tuple[int, list[int]]]] = {}
    for number in np.flatnonzero(is_left).tolist():
        left.setdefault(number // together, []).append(plain[number])
    if left:
        expected = {
            "part": pa.array([[part for part, _ in of] for of in left.values()], pa.list_(pa.int64())),
            "rows": pa.array(
                [[window for _, window in of] for of in left.values()], pa.list_(pa.list_(pa.int64()))
            ),
        }
        assert batch_table(windows.chosen(is_left), batch).equals(pa.table(expected))
