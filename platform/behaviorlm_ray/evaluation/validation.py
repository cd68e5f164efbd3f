"""What a search chooses by: one model on the validation samples alone."""

from collections.abc import Iterable

import numpy as np

from behaviorlm.errors import DataError
from behaviorlm.metrics.outcomes import Choices
from behaviorlm.metrics.score_batches import ScoreBatch, first_choices, keep
from behaviorlm.scoring.decision_rules import TAIL_MINIMUM_TARGETS, AnchorTail, anchor_tail_objective
from behaviorlm_ray.preparation.prepared_log import PreparedLog, SampleRows, count, gather


def validation_metrics(
    log: PreparedLog,
    validation: SampleRows,
    batches: Iterable[ScoreBatch],
    tail_minimum_targets: int = TAIL_MINIMUM_TARGETS,
) -> AnchorTail:
    """The objective of a search and its parts (`anchor_tail_objective`) on validation samples.

    batches: label scores of each of them, once. Raises DataError where a part has nothing to measure.
    """
    require_validation(log, validation, tail_minimum_targets)
    targets = gather(log, validation, "behavior")
    chosen = keep(batches, len(targets), lambda batch: {"first": first_choices(batch)})["first"]
    is_anchor = log.vocabulary.is_anchor
    return anchor_tail_objective(Choices(targets, chosen, len(is_anchor)), is_anchor, tail_minimum_targets)


def require_validation(log: PreparedLog, validation: SampleRows, tail_minimum_targets: int) -> None:
    """Whether a search can choose by these samples, whatever a model says of them. Raises DataError."""
    if not count(validation):
        raise DataError("a search chooses on validation samples, and there are none; raise split.validation")
    targets = gather(log, validation, "behavior")
    is_anchor = log.vocabulary.is_anchor
    counts = np.bincount(targets[targets >= 0], minlength=len(is_anchor))
    missing = [] if counts[is_anchor].any() else ["an anchor target (anchor_accuracy)"]
    if not (counts[~is_anchor] >= tail_minimum_targets).any():
        missing.append(f"a tail behavior with {tail_minimum_targets} targets (tail_macro_recall)")
    if missing:
        raise DataError(
            f"a search compares anchors and tail, and its {len(targets)} validation samples lack "
            f"{' and '.join(missing)}; raise split.validation or evaluation.max_validation_samples"
        )
