"""Which samples of A-Tuning are held to the base."""

import numpy as np

from behaviorlm.timelines.sample_ids import id_words, uniform_keys
from behaviorlm_ray.preparation.prepared_log import rows_of_anchors, rows_of_split
from behaviorlm_ray.tuning.config import KeepTail
from behaviorlm_ray.tuning.training_rows import held_rows
from tests.platform.preparation.test_prepared_log import random_log


def test_a_share_is_held_that_a_random_selection_of_the_same_seed_does_not_decide() -> None:
    log = random_log(3, [[900, 900], [700, 500]])
    anchors = rows_of_anchors(log, rows_of_split(log, "train"))
    whole, half, third = (held_rows(log, KeepTail(share=share, seed=5)) for share in (1.0, 0.5, 0.3))
    held, selected = [], []
    for part, rows, of_whole, of_half, of_third in zip(log.parts, anchors, whole, half, third, strict=True):
        assert np.array_equal(of_whole, rows)
        assert set(of_third) < set(of_half) < set(rows)
        held.append(np.isin(rows, of_half))
        selected.append(uniform_keys(*id_words(part.sample_id[rows]), 5) < np.uint64(2**63))
    of_all, of_both = np.concatenate(held), np.concatenate(held) & np.concatenate(selected)
    assert len(of_all) > 500
    # independent draws: a quarter is in both, with a deviation of at most .02
    assert abs(of_all.mean() - 0.5) < 0.1 and abs(of_both.mean() - 0.25) < 0.1
