"""Which samples a piece of work is about: halves, limits, ids, unions, on random prepared timelines."""

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behaviorlm.errors import DataError
from behaviorlm.prompts.encoder import PromptConfig
from behaviorlm_ray.preparation import prepared_log as prepared
from behaviorlm_ray.preparation.prepared_log import PreparedLog, SampleRows
from tests.behaviorlm.random_parts import prompt_tokens, vocabulary, write_part
from tests.platform.sample_groups import group_names


def random_log(seed: int, lengths: list[list[int]]) -> PreparedLog:
    """A prepared log of random timelines, opened; three groups of users over all parts. Its files are gone again."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "parts").mkdir()
        (folder / "vocabulary.json").write_text(vocabulary().to_json())
        (folder / "prompt.json").write_text(prompt_tokens(seed).to_json())
        for number, of_part in enumerate(lengths):
            path = folder / "parts" / f"timelines-{number}.arrow"
            write_part(path, seed + number, of_part)
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            groups = [f"group {int(user[-3:]) % 3}" for user in table["user"].to_pylist()]
            table = table.set_column(table.column_names.index("group"), "group", pa.array(groups))
            path.unlink()
            with pa.ipc.new_file(str(path), table.schema) as writer:
                writer.write_table(table)
        log = PreparedLog(folder, PromptConfig(max_events=4, stride=2))
        assert len([*log.parts]) == len(lengths) and log.prompt
        return log


LENGTHS = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=5), min_size=1, max_size=3)


def is_subset(some: SampleRows, rows: SampleRows) -> bool:
    return all(
        set(few.tolist()) <= set(many.tolist()) and (np.diff(few) > 0).all()
        for few, many in zip(some, rows, strict=True)
    )


@settings(max_examples=40)
@given(LENGTHS, st.integers(0, 1000))
def test_halves_share_no_group_and_no_sample_and_miss_none(lengths: list[list[int]], seed: int) -> None:
    log = random_log(seed, lengths)
    rows = prepared.rows_of_split(log, "train")
    halves = [prepared.rows_of_half(log, rows, half) for half in (0, 1)]
    for part, chosen in enumerate(rows):
        np.testing.assert_array_equal(np.sort(np.concatenate([half[part] for half in halves])), chosen)
    assert all(is_subset(half, rows) for half in halves)
    groups = [set(group_names(log, half).tolist()) for half in halves]
    assert not groups[0] & groups[1]


@pytest.mark.parametrize("anchors", [False, True])
def test_a_half_without_training_samples_is_refused_with_what_to_do(anchors: bool) -> None:
    one_group = random_log(3, [[40]])
    rows = prepared.rows_of_split(one_group, "train")
    (half,) = set(prepared.half_of(one_group, rows).tolist())
    with pytest.raises(DataError) as raised:
        prepared.require_both_halves(one_group, anchors=anchors)
    told = str(raised.value)
    assert f"half {1 - half} of the groups has no training sample" in told
    assert ("with an anchor target" in told) == anchors
    assert "by events.group, else by user" in told and "groups with training samples: 1)" in told
    assert "difficulty.source: start" in told and "other than reducible" in told
    prepared.require_both_halves(random_log(3, [[40] * 12]), anchors=anchors)


@settings(max_examples=40)
@given(LENGTHS, st.integers(0, 1000), st.integers(1, 40))
def test_a_limit_of_rows_takes_as_many_of_each_group_as_far_as_it_has_them(
    lengths: list[list[int]], seed: int, limit: int
) -> None:
    log = random_log(seed, lengths)
    rows = prepared.rows_of_split(log, "train")
    limited = prepared.limit_rows(log, rows, limit, seed)
    assert is_subset(limited, rows)
    assert prepared.count(limited) == min(limit, prepared.count(rows))
    has = Counter(group_names(log, rows).tolist())
    gives = Counter(group_names(log, limited).tolist())
    most = max(gives.values(), default=0)
    assert all(gives[name] in (most, most - 1) or gives[name] == has[name] for name in has)
    first = np.sort(prepared.drawn_order(log, rows, seed)[:limit])
    np.testing.assert_array_equal(prepared.places_in(rows, limited), first)
    again = prepared.limit_rows(log, rows, limit, seed)
    assert all((one == other).all() for one, other in zip(limited, again, strict=True))
    larger = prepared.limit_rows(log, rows, limit + 1, seed)
    assert is_subset(limited, larger)
    assert prepared.limit_rows(log, rows, None, seed) is rows
    assert prepared.limit_rows(log, rows, prepared.count(rows), seed) is rows


def test_a_limit_of_rows_takes_the_same_samples_whatever_part_they_lie_in() -> None:
    log = random_log(0, [[30, 20], [9, 14]])
    moved = random_log(0, [[30, 20], [9, 14]])
    moved.__dict__["parts"] = moved.parts[::-1]
    taken = []
    for each in (log, moved):
        limited = prepared.limit_rows(each, prepared.rows_of_split(each, "train"), 25, 4)
        taken.append({one.tobytes() for one in prepared.gather(each, limited, "sample_id")})
    assert taken[0] == taken[1] and len(taken[0]) == 25
    assert prepared.rests_on(log, prepared.rows_of_split(log, "train")) == "69 samples of 2 groups"


@settings(max_examples=40)
@given(LENGTHS, st.integers(0, 1000), st.integers(1, 8))
def test_a_limit_per_behavior_keeps_that_many_of_each_or_all(
    lengths: list[list[int]], seed: int, limit: int
) -> None:
    log = random_log(seed, lengths)
    rows = prepared.rows_of_split(log, "train")
    limited = prepared.limit_per_behavior(log, rows, limit, seed)
    assert is_subset(limited, rows)
    before = np.bincount(prepared.gather(log, rows, "behavior"), minlength=5)
    after = np.bincount(prepared.gather(log, limited, "behavior"), minlength=5)
    np.testing.assert_array_equal(after, np.minimum(before, limit))
    assert prepared.limit_per_behavior(log, rows, None, seed) is rows


def test_the_draw_of_a_limit_changes_with_the_seed() -> None:
    log = random_log(0, [[30, 30], [30]])
    rows = prepared.rows_of_split(log, "train")
    drawn = {
        tuple(np.concatenate(prepared.limit_per_behavior(log, rows, 3, seed)).tolist()) for seed in range(5)
    }
    groups = {tuple(np.concatenate(prepared.limit_rows(log, rows, 10, seed)).tolist()) for seed in range(12)}
    assert len(drawn) == 5 and len(groups) > 1


@settings(max_examples=40)
@given(LENGTHS, st.integers(0, 1000))
def test_rows_of_ids_are_the_samples_with_these_ids(lengths: list[list[int]], seed: int) -> None:
    log = random_log(seed, lengths)
    rows = prepared.rows_of_split(log, "train")
    chance = np.random.default_rng(seed)
    wanted = [chosen[chance.random(len(chosen)) < 0.5] for chosen in rows]
    ids = prepared.gather(log, wanted, "sample_id")
    found = prepared.rows_of_ids(log, rows, chance.permutation(ids))
    assert all((one == other).all() for one, other in zip(found, wanted, strict=True))


@given(st.integers(0, 2**32 - 1))
def test_rows_of_two_sets_are_found_again_in_their_union(seed: int) -> None:
    chance = np.random.default_rng(seed)
    rows: SampleRows = [np.sort(chance.choice(40, 12, replace=False)) for _ in range(3)]
    belongs = [chance.random(12) < 0.5 for _ in rows]
    first = [chosen[one] for chosen, one in zip(rows, belongs, strict=True)]
    second = [chosen[~one] for chosen, one in zip(rows, belongs, strict=True)]
    union = prepared.union_rows(first, second)
    assert all((one == other).all() for one, other in zip(union, rows, strict=True))
    values = np.concatenate(union)
    for chosen in (first, second):
        np.testing.assert_array_equal(values[prepared.places_in(union, chosen)], np.concatenate(chosen))
