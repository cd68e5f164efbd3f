"""Weights and repeats of rare behaviors: the published formula, exact counts of an epoch, one order for all."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from behaviorlm.training.balance import Balance, class_weights, rows_again, shown_counts
from behaviorlm.training.packs import StepSchedule
from behaviorlm.training.stored_schedule import StoredSchedule
from tests.behaviorlm.random_parts import prompt_tokens, random_parts
from tests.behaviorlm.training.test_packs import LENGTHS, batching


def test_class_weights_are_inverse_effective_numbers_with_mean_1_over_the_samples() -> None:
    counts, beta = np.array([5000, 40, 3, 1, 0]), 0.99
    effective = np.array([sum(beta**k for k in range(n)) for n in counts[:4]])
    wanted = (1 / effective) * counts.sum() / (counts[:4] / effective).sum()
    found = class_weights(counts, beta)
    assert found[:4] == pytest.approx(wanted, rel=1e-9) and found[4] == found[3]
    assert found @ counts / counts.sum() == pytest.approx(1.0)
    assert class_weights(counts, 0.0).tolist() == [1.0] * 5


def test_an_epoch_shows_the_square_root_or_all_alike_and_none_less_often() -> None:
    counts = np.array([400, 100, 3, 0])
    assert shown_counts(counts, 0.0) is counts
    assert shown_counts(counts, 0.5).tolist() == [400, 200, 35, 0]
    assert shown_counts(counts, 1.0).tolist() == [400, 400, 400, 0]


def oversampled(folder: Path, seed: int = 0) -> tuple[StepSchedule, list[np.ndarray], np.ndarray, Counter]:
    parts, prompt = random_parts(folder, 0, LENGTHS), prompt_tokens(0)
    rows = [part.targets("train") for part in parts]
    behaviors = np.concatenate([part.behavior[chosen] for part, chosen in zip(parts, rows, strict=True)])
    shown = shown_counts(np.bincount(behaviors, minlength=len(prompt.label_ids)), 1.0)
    again = rows_again(parts, rows, shown, seed)
    steps = StepSchedule(parts, rows, prompt, [], batching(), None, Balance(again=again))
    behavior_of = {
        part.sample_id[row].tobytes(): int(part.behavior[row]) for part in parts for row in range(len(part))
    }
    times = Counter(sample for step in range(len(steps)) for sample in steps.sample_ids(step))
    by_behavior: Counter = Counter()
    for sample, number in times.items():
        by_behavior[behavior_of[sample]] += number
    assert {b: n for b, n in enumerate(shown.tolist()) if n} == dict(by_behavior)
    for behavior in by_behavior:
        of = [number for sample, number in times.items() if behavior_of[sample] == behavior]
        assert max(of) - min(of) <= 1
    assert len(times) == sum(map(len, rows)) and sum(times.values()) > len(times)
    return steps, again, shown, times


def test_an_epoch_has_exactly_the_repeats_and_they_spread_over_its_steps(tmp_path: Path) -> None:
    steps, _, _, times = oversampled(tmp_path)
    sample, most = times.most_common(1)[0]
    assert most > 2
    assert sum(sample in steps.sample_ids(step) for step in range(len(steps))) > 1
    for step in range(len(steps)):
        packs = steps.packs(step)
        assert all(len(pack) <= 120 for pack in packs)
        items = sum(len(np.unique(pack.item[pack.part == 0])) for pack in packs)
        assert items == len(steps.sample_ids(step))


def test_repeats_are_fixed_by_the_seed_and_stored_with_the_schedule(tmp_path: Path) -> None:
    made, again, _, _ = oversampled(tmp_path)
    same, _, _, _ = oversampled(tmp_path)
    other = oversampled(tmp_path, seed=1)[1]
    assert made.fingerprint == same.fingerprint
    assert any(not np.array_equal(one, two) for one, two in zip(again, other, strict=True))
    made.store(tmp_path / "schedule.arrow")
    stored = StoredSchedule(tmp_path / "schedule.arrow")
    opened = StepSchedule(random_parts(tmp_path, 0, LENGTHS), stored, prompt_tokens(0), [], batching())
    assert opened.fingerprint == made.fingerprint
    assert [opened.sample_ids(s) for s in range(len(made))] == [made.sample_ids(s) for s in range(len(made))]


def test_a_behaviors_weight_is_that_of_its_read_outs(tmp_path: Path) -> None:
    parts, prompt = random_parts(tmp_path, 0, LENGTHS), prompt_tokens(0)
    rows = [part.targets("train") for part in parts]
    weights = np.linspace(0.5, 3.0, len(prompt.label_ids))
    plain = StepSchedule(parts, rows, prompt, [], batching())
    steps = StepSchedule(parts, rows, prompt, [], batching(), None, Balance(weights))
    assert steps.fingerprint != plain.fingerprint
    behavior_of = {
        part.sample_id[row].tobytes(): int(part.behavior[row]) for part in parts for row in range(len(part))
    }
    for step in range(len(steps)):
        ids = steps.sample_ids(step)
        for sample_ids, pack in steps.single_packs(step):
            for item, sample in enumerate(sample_ids):
                wanted = weights[behavior_of[sample]] / len(ids)
                assert pack.weight[pack.item == item] == pytest.approx(wanted)
