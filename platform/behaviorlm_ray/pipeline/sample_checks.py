"""Whether a prepared log has what the arms of a run need, and room for it: held against it before anything is tuned."""

import numpy as np

from behaviorlm.errors import DataError
from behaviorlm.prompts.encoder import PromptTokens
from behaviorlm.timelines.parts import TimelinePart, labels_with_terminator
from behaviorlm.training.schedule import Int64
from behaviorlm_ray.pipeline.arms import ArmSettings
from behaviorlm_ray.pipeline.settings import RunSettings, with_changed_keys
from behaviorlm_ray.preparation.prepared_log import PreparedLog, count, require_both_halves, rows_of_split
from behaviorlm_ray.tuning.training_rows import kept_tokens


def check_samples(settings: RunSettings, log: PreparedLog) -> None:
    """Raise DataError where an arm to be compared could not be made or measured."""
    longest = _longest_sample(log)
    for name in settings.evaluation.arms:
        arm = settings.all_arms[name]
        changed = with_changed_keys(settings, arm.values, f"arms.{name}.values")
        _check_kinds(changed, arm, log)
        for key in tunings(changed, arm):
            limit = getattr(changed, key).max_tokens
            kept = kept_tokens(log, changed.a_tuning.keep_tail) if key == "a_tuning" else 0
            if longest + kept > limit:
                own = (f"{key}.max_tokens", f"{key}.keep_tail")
                where = f"arms.{name}.values: " if any(of.startswith(own) for of in arm.values) else ""
                told = f"{longest} tokens" + (f" and {kept} for {key}.keep_tail" if kept else "")
                raise DataError(
                    f"{where}{key}.max_tokens: the longest training sample has {told}, the instruction included, more "
                    f"than {limit}: set it to {longest + kept} or more, or lower prompt.max_events"
                )
    if not count(rows_of_split(log, "test")):
        raise DataError(
            "there is no test sample to evaluate on: raise split.test (with split.by: time only users with enough "
            "events have test events, with split.by: group only some groups), or run the jobs up to b_tune alone"
        )
    _check_room_for_scores(settings, log)


def score_bytes(settings: RunSettings, log: PreparedLog) -> tuple[int, int, int]:
    """Validation samples and test samples that are scored, and the bytes that label scores of both take, of a model."""
    evaluation = settings.evaluation
    limits = {"validation": evaluation.max_validation_samples, "test": evaluation.max_samples}
    there = {split: count(rows_of_split(log, split)) for split in limits}
    asked = {split: min(there[split], limit or there[split]) for split, limit in limits.items()}
    return asked["validation"], asked["test"], 4 * sum(asked.values()) * len(log.vocabulary)


def _check_room_for_scores(settings: RunSettings, log: PreparedLog) -> None:
    """Label scores of all test samples are kept, as rules and a mixture are chosen when all models have theirs."""
    limit = settings.execution.max_score_gigabytes * 1e9
    validation, test, needed = score_bytes(settings, log)
    if needed <= limit:
        return
    fits = int(limit / (4 * len(log.vocabulary)))
    raise DataError(
        f"evaluation.max_samples: {test:,} test and {validation:,} validation samples of {len(log.vocabulary):,} "
        f"behaviors are {needed / 1e9:,.1f} GB of label scores for each model, more than "
        f"execution.max_score_gigabytes ({settings.execution.max_score_gigabytes:g}): set it and "
        f"evaluation.max_validation_samples to {max(1, fits // 2):,} each, or raise the limit"
    )


def tunings(settings: RunSettings, arm: ArmSettings) -> list[str]:
    """The sections of the tunings that an arm takes, in their order."""
    start = "a_tuning" if settings.b_tuning_from == "a_tuned" else "one_stage"
    return {
        "untuned": [],
        "one_stage": ["one_stage"],
        "thinned": ["one_stage"],
        "a_tuned": ["a_tuning"],
        "ab_tuned": [start, "b_tuning"],
    }[arm.tuning]


def _check_kinds(settings: RunSettings, arm: ArmSettings, log: PreparedLog) -> None:
    """Whether there are the anchors, tail behaviors and halves that an arm is tuned on."""
    has_b = arm.tuning == "ab_tuned"
    if arm.tuning == "a_tuned" or (has_b and settings.b_tuning_from == "a_tuned"):
        log.vocabulary.require_anchors()
    share = settings.selection.anchor_share
    if (has_b or arm.tuning == "thinned") and share is not None and share < 1:
        log.vocabulary.require_tail()
    crossed = settings.difficulty.source == "cross_fit"
    if has_b and (crossed or settings.difficulty.measure == "reducible"):
        require_both_halves(log, anchors=crossed and settings.b_tuning_from == "a_tuned")


def _longest_sample(log: PreparedLog) -> int:
    """Tokens of the longest training sample as tuning lays it out on its own, with the instruction."""
    longest = [
        _largest_window(part, rows, log.prompt)
        for part, rows in zip(log.parts, rows_of_split(log, "train"), strict=True)
    ]
    return max(longest, default=0) + len(log.prompt.instruction_ids)


def _largest_window(part: TimelinePart, rows: Int64, prompt: PromptTokens) -> int:
    if not len(rows):
        return 0
    labels = np.array([len(label) for label in labels_with_terminator(prompt)], dtype=np.int64)
    return int((part.prompt_lengths(rows) + labels[part.behavior[rows]] - 1).max())
