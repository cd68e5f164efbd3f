"""Whether a prepared log has room for its samples in every tuning, held against the schedules that tuning makes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from behaviorlm.errors import DataError
from behaviorlm.training.packs import Batching, StepSchedule, TailReference
from behaviorlm_ray.pipeline.sample_checks import check_samples, score_bytes, tunings
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.preparation.prepared_log import PreparedLog, rows_of_split
from behaviorlm_ray.tuning.training_rows import tail_trie
from tests.platform.preparation.test_prepared_log import random_log
from tests.platform.small_runs import run_settings


def settings_of(tmp_path: Path, *overrides: str) -> RunSettings:
    return run_settings(tmp_path / "runs", tmp_path, tmp_path / "log.csv", overrides=overrides)


def schedule(log: PreparedLog, max_tokens: int, *, held: bool = False) -> StepSchedule:
    """A tuning on all training samples, which are held to a reference or are not."""
    rows = rows_of_split(log, "train")
    scores = [np.full((len(of_part), 3), -np.log(3), np.float32) for of_part in rows]
    reference = TailReference(tail_trie(log), 1.0, rows, scores) if held else None
    return StepSchedule(log.parts, rows, log.prompt, [], Batching(8, 2, max_tokens, 1, None, 0), reference)


def needed(log: PreparedLog, settings: RunSettings) -> int:
    """The tokens that the check asks for."""
    with pytest.raises(DataError) as raised:
        check_samples(settings, log)
    return int(str(raised.value).partition("set it to ")[2].partition(" ")[0])


@pytest.mark.parametrize("seed", range(5))
def test_what_is_asked_for_is_what_tuning_needs_to_the_token(seed: int, tmp_path: Path) -> None:
    log = random_log(seed, [[30, 20], [40, 3, 9]])
    settings = settings_of(tmp_path, "evaluation.arms=[one_stage]", "one_stage.max_tokens=16")
    longest = needed(log, settings)
    assert len(schedule(log, longest)) > 0
    with pytest.raises(DataError, match="does not fit into max_tokens"):
        schedule(log, longest - 1)
    enough = settings_of(tmp_path, "evaluation.arms=[one_stage]", f"one_stage.max_tokens={longest}")
    with pytest.raises(DataError, match="there is no test sample"):  # the next thing that is wrong
        check_samples(enough, log)


def test_room_is_asked_for_what_holds_samples_to_the_base(tmp_path: Path) -> None:
    log = random_log(2, [[30, 20], [40, 3, 9]])
    names = ([10], [10, 20], [10, 21], [11, 20], [11, 21, 22])  # that begin alike: some nodes are tokens
    label_ids = tuple(np.array(name, np.int32) for name in names)
    log.__dict__["prompt"] = replace(log.prompt, label_ids=label_ids)
    arms = (
        "arms={kept: {tuning: a_tuned, values: {a_tuning.keep_tail.share: 1}}}",
        "evaluation.arms=[kept]",
    )
    settings = settings_of(tmp_path, *arms, "a_tuning.max_tokens=16")
    longest = needed(log, settings)
    assert tail_trie(log).nodes and len(schedule(log, longest, held=True)) > 0
    with pytest.raises(DataError, match="does not fit into max_tokens"):
        schedule(log, longest - 1, held=True)
    assert len(schedule(log, longest - tail_trie(log).nodes)) > 0
    with pytest.raises(
        DataError, match=r"^arms\.kept\.values: a_tuning\.max_tokens: .* for a_tuning\.keep_tail, "
    ):
        check_samples(settings, log)


def test_every_tuning_on_the_way_to_an_arm_is_looked_at(tmp_path: Path) -> None:
    log = random_log(1, [[30, 20], [40, 3, 9]])
    arms = "evaluation.arms=[one_stage, ab_tuned, short]"
    short = "arms={short: {tuning: one_stage, values: {one_stage.max_tokens: 16}}}"
    for override, message in {
        "b_tuning.max_tokens=16": r"^b_tuning\.max_tokens: the longest training sample",
        "a_tuning.max_tokens=16": r"^a_tuning\.max_tokens: ",
        "b_tuning.max_tokens=512": r"^arms\.short\.values: one_stage\.max_tokens: ",
    }.items():
        with pytest.raises(DataError, match=message):
            check_samples(settings_of(tmp_path, arms, short, override), log)


def test_the_tunings_of_an_arm_follow_where_b_tuning_goes_on_from(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    of_one_stage = settings_of(tmp_path, "b_tuning_from=one_stage")
    arms = settings.all_arms
    assert tunings(settings, arms["untuned"]) == []
    assert tunings(settings, arms["ab_tuned"]) == ["a_tuning", "b_tuning"]
    assert tunings(of_one_stage, arms["ab_tuned"]) == ["one_stage", "b_tuning"]


def test_label_scores_that_would_not_fit_are_refused_with_numbers_that_do(tmp_path: Path) -> None:
    log = random_log(3, [[30, 20], [40, 3, 9]])
    for number, part in enumerate(log.parts):
        log.parts._open[number] = replace(part, split=(np.arange(len(part)) % 3).astype(np.int8))
    arms = ("evaluation.arms=[untuned]",)
    validation, test, needed = score_bytes(settings_of(tmp_path, *arms), log)
    there = [sum(map(len, rows_of_split(log, split))) for split in ("validation", "test")]
    assert [validation, test] == there and needed == 4 * sum(there) * len(log.vocabulary)
    limit = f"execution.max_score_gigabytes={needed / 2e9}"
    with pytest.raises(DataError, match=r"evaluation\.max_samples: .*max_validation_samples to ") as raised:
        check_samples(settings_of(tmp_path, *arms, limit), log)
    fits = int(str(raised.value).partition("max_validation_samples to ")[2].partition(" ")[0])
    fewer = (f"evaluation.max_samples={fits}", f"evaluation.max_validation_samples={fits}")
    check_samples(settings_of(tmp_path, *arms, limit, *fewer), log)
    assert 0 < score_bytes(settings_of(tmp_path, *arms, *fewer), log)[2] <= needed / 2
