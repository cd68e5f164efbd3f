"""Work that is told from some timelines, against what the whole schedule and the scorer then count."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from behaviorlm.model.attention import TreeAttention
from behaviorlm.scoring.label_scoring import label_scorer
from behaviorlm.timelines.parts import labels_with_terminator, write_prompts
from behaviorlm.training.packs import Batching, StepSchedule
from behaviorlm.trees.token_tree import TreeWriter
from behaviorlm_ray.costs.config import ImaginedLog
from behaviorlm_ray.costs.imagined import imagined_sample
from behaviorlm_ray.costs.log_sample import LogSample, few_of, scoring_work, thinned, tuning_work
from behaviorlm_ray.pipeline.scoring_work import names_work
from tests.behaviorlm.random_parts import prompt_tokens, random_parts
from tests.platform.tuning_runs import toy_model

LENGTHS = [[60, 45, 70, 52] * 4, [35, 20, 66, 41] * 4, [30] * 12]


def sample_of(parts: Any, rows: Any) -> LogSample:
    """Of a log that is these parts."""
    few, chosen = few_of(parts, rows)
    counts = np.zeros(5)
    for part, of in zip(parts, rows, strict=True):
        counts += np.bincount(part.behavior[of], minlength=5)
    is_anchor = np.array([True, True, False, False, False])
    return LogSample(
        few, {"train": chosen}, prompt_tokens(0), is_anchor, counts, {}, 0, 0, {"chat": 30.0}, ""
    )


@pytest.mark.parametrize("cap", [1, 4, 16])
@pytest.mark.parametrize("share", [1.0, 0.2])
def test_tokens_of_a_tuning_are_those_of_its_schedule_within_a_tenth(
    tmp_path: Path, cap: int, share: float
) -> None:
    parts = random_parts(tmp_path, 0, LENGTHS)
    rows = [part.targets("train") for part in parts]
    sample = sample_of(parts, rows)
    random = np.random.default_rng(5)
    chosen = [of[random.random(len(of)) < share] for of in rows]
    batching = Batching(64, cap, 400, 1.0, None, 0)
    schedule = StepSchedule(parts, chosen, sample.prompt, [], batching)
    counted = sum(len(pack) for step in range(len(schedule)) for pack in schedule.packs(step))
    found = tuning_work(sample, thinned(sample, share * sample.counts), batching, {})
    told = found.work.tokens / found.samples * sum(map(len, chosen))
    assert told == pytest.approx(counted, rel=0.1)


def test_conversations_are_in_the_packs(tmp_path: Path) -> None:
    parts = random_parts(tmp_path, 0, LENGTHS)
    sample = sample_of(parts, [part.targets("train") for part in parts])
    batching = Batching(64, 4, 400, 1.0, None, 0)
    rows = thinned(sample, sample.counts)
    alone, mixed = (tuning_work(sample, rows, batching, ratios) for ratios in ({}, {"chat": 0.25}))
    added = (mixed.work.tokens - alone.work.tokens) / alone.samples
    assert added == pytest.approx(0.25 * 30, rel=0.25)
    assert mixed.work.readouts == pytest.approx(0.25 * 15 * mixed.samples, rel=0.1)


@pytest.mark.parametrize("normalization", ["full", "trie"])
def test_tokens_of_scoring_are_those_that_the_scorer_counts(tmp_path: Path, normalization: Any) -> None:
    parts = random_parts(tmp_path, 0, [LENGTHS[0]])
    (part,) = parts
    sample = sample_of(parts, [part.targets("train")])
    windows = list(part.windows(part.targets("train")))[:8]
    labels = labels_with_terminator(sample.prompt)
    # the toy knows 61 tokens
    fits = [np.minimum(label, 60) for label in labels]
    scorer = label_scorer(toy_model().model.eval(), TreeAttention("full"), fits, 2048, normalization)
    rows = np.concatenate(windows)
    found = scoring_work(sample, [rows], 16)

    def write(writer: TreeWriter) -> list[int]:
        writer.open(np.minimum(sample.prompt.instruction_ids, 60))
        last = [index for window in windows for index in write_prompts(writer, _small(part), window)]
        writer.close()
        return last

    scores, work = scorer.score_counted(write)
    counted, prompts = work.tokens, len(scores)
    assert found.samples == prompts == len(rows)
    nodes, head_rows = names_work(fits, normalization, 61)
    # as one tree, so with one instruction
    again = (found.packs - 1) * len(sample.prompt.instruction_ids)
    assert found.work.tokens - again + prompts * nodes == counted
    assert head_rows * prompts == work.head_rows


def _small(part: Any) -> Any:
    from dataclasses import replace

    from behaviorlm.timelines.parts import TokenRuns

    return replace(
        part,
        lines=TokenRuns(np.minimum(part.lines.values, 60), part.lines.offsets),
        questions=TokenRuns(np.minimum(part.questions.values, 60), part.questions.offsets),
    )


def test_a_draw_has_the_mix_that_is_wanted_and_enough_to_count_by(tmp_path: Path) -> None:
    parts = random_parts(tmp_path, 0, LENGTHS)
    sample = sample_of(parts, [part.targets("train") for part in parts])
    wanted = sample.counts * np.array([1.0, 0.5, 0.0, 0.5, 0.5])
    drawn = np.concatenate(
        [part.behavior[of] for part, of in zip(sample.parts, thinned(sample, wanted), strict=True)]
    )
    found = np.bincount(drawn, minlength=5)
    assert found[2] == 0 and found == pytest.approx(wanted, abs=5 * np.sqrt(wanted.max()))
    few = thinned(sample, sample.counts * 1e-6)
    assert sum(map(len, few)) == pytest.approx(200, rel=0.3)


def test_an_imagined_log_has_the_events_that_are_asked_for() -> None:
    log = ImaginedLog(events=1e9, users=1e7, behaviors=50)
    shares = {"train": 0.8, "validation": 0.1, "test": 0.1}
    sample = imagined_sample(log, (32, 16), shares, 0.01, ["chat"])
    assert sample.counts.sum() + sum(
        sample.targets[split] for split in ("validation", "test")
    ) == pytest.approx(1e9 - 1e7, rel=1e-6)  # a user's first event is no target
    assert len({tuple(ids) for ids in sample.prompt.label_ids}) == 50
    assert sample.is_anchor.any() and not sample.is_anchor.all()
