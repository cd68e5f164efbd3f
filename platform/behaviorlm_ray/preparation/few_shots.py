"""How few samples a run uses, in numbers and in words."""

from typing import Any

import numpy as np

from behaviorlm_ray.preparation.prepared_log import (
    PreparedLog,
    SampleRows,
    count,
    counts_of,
    rows_of_split,
    whole_split,
)


def few_shot_counts(log: PreparedLog) -> dict[str, Any] | None:
    """The key's values, and of training and validation how many samples with a tail target are used, of how many, and
    how many tail behaviors have one, and where a share is used the same of all; None where all samples are used.
    """
    if log.few_shot.uses_all:
        return None
    is_share = log.few_shot.share < 1
    found: dict[str, Any] = log.few_shot.model_dump(mode="json", exclude=set() if is_share else {"share"})
    for split in ("train", "validation"):
        used, there = (_of_tail(log, rows) for rows in (rows_of_split(log, split), whole_split(log, split)))
        found[split] = {
            "tail": int(used.sum()),
            "tail_there": int(there.sum()),
            "tail_behaviors": int(np.count_nonzero(used)),
        }
        if is_share:
            found[split] |= {
                "all": count(rows_of_split(log, split)),
                "all_there": count(whole_split(log, split)),
            }
    return found


def few_shots_in_words(log: PreparedLog) -> str | None:
    """The same for people."""
    found = few_shot_counts(log)
    if found is None:
        return None
    used = {
        split: f"{found[split]['tail']:,} of {found[split]['tail_there']:,} {name} samples with a tail target (of "
        f"{found[split]['tail_behaviors']} behaviors)"
        for split, name in (("train", "training"), ("validation", "validation"))
    }
    keys = [
        f"few_shot.{key} is {found[key]}" for key in ("tail_samples", "share") if found.get(key) is not None
    ]
    return (
        f"{' and '.join(keys)}: {used['train']} and {used['validation']} are used, by "
        "counting, too; histories, vocabulary, counts and test stay whole"
    )


def _of_tail(log: PreparedLog, rows: SampleRows) -> np.ndarray:
    return counts_of(log, rows)[~log.vocabulary.is_anchor]
