"""How many packs a step has is told before it runs, against those that the schedule then makes; too few are told of."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from behaviorlm.timelines.parts import labels_with_terminator
from behaviorlm.training.packs import Batching, StepSchedule, TailReference
from behaviorlm.trees.closed_trie import build_closed_trie
from behaviorlm.trees.label_trie import UNCUT
from behaviorlm_ray.pipeline.step_packs import (
    cap_warnings,
    first_step_warnings,
    idle_workers,
    packs_a_step,
)
from behaviorlm_ray.pipeline.tuning_plan import TuningPlan
from behaviorlm_ray.tuning.config import TuningConfig
from behaviorlm_ray.tuning.training_rows import batching_of
from tests.behaviorlm.random_parts import prompt_tokens, random_parts


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("max_tokens", [120, 200, 400])
def test_about_as_many_packs_are_told_as_the_schedule_makes(
    tmp_path: Path, max_tokens: int, held: bool
) -> None:
    parts = random_parts(tmp_path, 0, [[30, 25, 40], [35, 20]])
    rows = [part.targets("train") for part in parts]
    config = TuningConfig(samples_per_step=40, max_tokens=max_tokens, max_samples_per_timeline_per_step=4)
    batching = Batching(40, 4, max_tokens, 1.0, None, 0)
    names = ([10], [10, 20], [10, 21], [11, 20], [11, 21, 22])
    prompt = replace(prompt_tokens(0), label_ids=tuple(np.array(name, np.int32) for name in names))
    trie = build_closed_trie(labels_with_terminator(prompt), UNCUT).among(np.array([2, 3, 4]))
    assert trie.nodes
    scores = [np.full((len(of_part), 3), -np.log(3), np.float32) for of_part in rows]
    reference = TailReference(trie, 1.0, rows, scores) if held else None
    schedule = StepSchedule(parts, rows, prompt, [], batching, reference)
    made = np.mean([len(schedule.packs(step)) for step in range(len(schedule))])
    told = packs_a_step(parts, rows, prompt, config, kept=trie.nodes if held else 0)
    assert 0.6 * made - 0.5 < told <= made + 0.5


def test_nothing_to_train_on_has_no_packs(tmp_path: Path) -> None:
    parts = random_parts(tmp_path, 0, [[5]])
    assert packs_a_step(parts, [np.zeros(0, np.int64)], prompt_tokens(0), TuningConfig()) == 0


def test_workers_without_a_pack_are_told_of_with_the_keys() -> None:
    plan = TuningPlan("a_tuning", TuningConfig(samples_per_step=256, max_tokens=8192), "anchors", mixed=False)
    assert idle_workers(1.6, 2, plan) == idle_workers(7.2, 8, plan) == []
    (told,) = idle_workers(1.6, 8, plan)
    assert "2 pack(s) a step for 8 workers (execution.tuning.workers), so 6 have nothing to do" in told
    assert "a_tuning.samples_per_step (256)" in told and "a_tuning.max_tokens (8192)" in told


def test_a_stage_warns_by_the_packs_that_its_schedule_makes(tmp_path: Path) -> None:
    parts = random_parts(tmp_path, 0, [[30, 25, 40], [35, 20]])
    rows = [part.targets("train") for part in parts]
    config = TuningConfig(samples_per_step=40, max_tokens=120, max_samples_per_timeline_per_step=4)
    plan = TuningPlan("one_stage", config, "all", mixed=False)
    schedule = StepSchedule(parts, rows, prompt_tokens(0), [], batching_of(config))
    packs = len(schedule.packs(0))
    assert packs > 1
    cap = "one_stage.max_samples_per_timeline_per_step (4)"
    assert [cap in told for told in cap_warnings(schedule, plan)] == [True] * bool(schedule.cap_exceeded)
    assert first_step_warnings(schedule, packs, plan) == first_step_warnings(schedule, 1, plan) == []
    (short,) = first_step_warnings(schedule, packs + 1, plan)
    assert f"about {packs} pack(s)" in short and "raise one_stage.samples_per_step (40)" in short
