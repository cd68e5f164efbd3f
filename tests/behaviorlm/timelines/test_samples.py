"""Timelines against a plain loop over the same events; stable ids, ties, duplicates, repeats, large users."""

import hashlib
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behaviorlm.errors import ConfigError, DataError
from behaviorlm.events.normalization import check_quarantine, events_schema, normalize
from behaviorlm.log_files.columns import check_columns
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.log_files.reading import read_table_batches
from behaviorlm.log_files.source_files import find_files
from behaviorlm.timelines.config import SplitConfig, VocabularyConfig
from behaviorlm.timelines.sample_ids import sample_ids
from behaviorlm.timelines.samples import build_timelines, timeline_schema, training_target_counts
from behaviorlm.timelines.vocabulary import build_vocabulary

REAL_LOGS = Path(__file__).resolve().parents[4] / "shared" / "data"


def mapping(**changes: Any) -> EventsConfig:
    keys: dict[str, Any] = {
        "dataset": "test",
        "paths": ["log.csv"],
        "user": "who",
        "behavior": "what",
        "order": {"column": "step", "kind": "integer"},
        "context_before": ["place"],
    }
    return EventsConfig(**{**keys, **changes})


def event_table(
    rows: list[tuple[str, int, str, str | None]], config: EventsConfig, **columns: list
) -> pa.Table:
    """Events (user, order, behavior, place), at the row of their place in the list, in two files."""
    users, orders, behaviors, places = ([row[index] for row in rows] for index in range(4))
    values: dict[str, list] = {
        "user": users,
        "group": users,
        "order": orders,
        "order_remainder": [0] * len(rows),
        "behavior": behaviors,
        "split_label": [None] * len(rows),
        "before.place": places,
        "file": [index % 2 for index in range(len(rows))],
        "row": [index // 2 + 1 for index in range(len(rows))],
        "is_zoned": [None] * len(rows),
        "respelled": [0] * len(rows),
        **columns,
    }
    schema = events_schema(config)
    return pa.table([pa.array(values[field.name], field.type) for field in schema], schema=schema)


def plain_timelines(rows: list[dict], drop: bool, collapse: bool, min_history: int) -> list[tuple]:
    """What build_timelines must give, written as one loop."""
    found: list[tuple] = []
    seen: set[tuple] = set()
    previous: tuple[str, str] | None = None
    position: dict[str, int] = {}
    for row in sorted(rows, key=lambda row: (row["user"].encode(), row["order"], row["file"], row["row"])):
        key = (row["user"], row["order"], row["behavior"], row["before.place"])
        if drop and key in seen:
            continue
        seen.add(key)
        repeat = previous == (row["user"], row["behavior"])
        previous = (row["user"], row["behavior"])
        if collapse and repeat:
            continue
        index = position.get(row["user"], 0)
        position[row["user"]] = index + 1
        found.append(
            (
                row["user"],
                index,
                row["order"],
                row["behavior"],
                row["before.place"],
                index >= min_history,
                repeat,
            )
        )
    return found


event_rows = st.lists(
    st.tuples(
        st.sampled_from(["u", "v", "ü", "U", "👤"]),
        st.integers(-2, 3),
        st.sampled_from(["a", "b", "two\nlines"]),
        st.sampled_from(["home", None]),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(
    rows=event_rows,
    drop=st.booleans(),
    collapse=st.booleans(),
    min_history=st.integers(0, 3),
    seed=st.integers(),
)
def test_timelines_are_those_of_a_plain_loop_in_whatever_order_the_rows_come(
    rows: list[tuple[str, int, str, str | None]], drop: bool, collapse: bool, min_history: int, seed: int
) -> None:
    config = mapping(exact_duplicates="drop" if drop else "keep", collapse_repeats=collapse)
    events = event_table(rows, config)
    expected = plain_timelines(events.to_pylist(), drop, collapse, min_history)
    shuffled = events.take(pa.array(random.Random(seed).sample(range(len(rows)), len(rows)), pa.int64()))
    timelines, counts = build_timelines(shuffled, config, SplitConfig(), min_history, "test")
    assert timelines.schema == timeline_schema(config)
    names = ["user", "position", "order", "behavior", "before.place", "is_target", "is_repeat"]
    assert [tuple(row[name] for name in names) for row in timelines.to_pylist()] == expected
    assert counts["events"] == len(expected)
    assert counts["events_read"] == len(rows)
    assert (
        counts["events_read"] - counts["duplicates_dropped"] - counts["repeats_dropped"] == counts["events"]
    )
    assert counts["exact_duplicates"] == len(rows) - len(set(rows))
    assert counts["targets"] == sum(row[5] for row in expected)
    assert len(set(timelines["sample_id"].to_pylist())) == len(expected)


def test_ties_in_time_are_broken_by_file_and_row() -> None:
    config = mapping()
    rows: list[tuple[str, int, str, str | None]] = [("u", 5, name, None) for name in "abcdef"]
    timelines, counts = build_timelines(event_table(rows, config), config, SplitConfig(), 1, "test")
    # Rows of file 0 (a, c, e), then of file 1.
    assert timelines["behavior"].to_pylist() == ["a", "c", "e", "b", "d", "f"]
    assert counts["tied_events"] == 5


def test_exact_duplicates_apart_in_a_tie_are_found_and_the_first_stays() -> None:
    rows: list[tuple[str, int, str, str | None]] = [
        ("u", 1, "a", None),
        ("u", 1, "b", None),
        ("u", 1, "a", None),
    ]
    for choice, behaviors in (("keep", ["a", "b", "a"]), ("drop", ["a", "b"])):
        config = mapping(exact_duplicates=choice)
        events = event_table(rows, config, file=[0, 0, 0], row=[1, 2, 3])
        timelines, counts = build_timelines(events, config, SplitConfig(), 1, "test")
        assert timelines["behavior"].to_pylist() == behaviors
        assert counts["exact_duplicates"] == 1


def test_sample_ids_depend_on_dataset_user_and_position_alone() -> None:
    config = mapping()
    rows: list[tuple[str, int, str, str | None]] = [("u", step, "a", None) for step in range(5)]
    alone, _ = build_timelines(event_table(rows, config), config, SplitConfig(), 1, "test")
    others = [*rows, *((f"v{step}", step, "b", "home") for step in range(5))]
    among, _ = build_timelines(event_table(others, config), config, SplitConfig(by="group"), 0, "test")
    assert alone["sample_id"].to_pylist() == among["sample_id"].to_pylist()[:5]
    # Pinned: stored selections and scores refer to samples by these.
    assert alone["sample_id"][0].as_py().hex() == "e1f08541a39687e597078772d068798a"


def test_sample_ids_are_those_of_the_definition_in_plain_integers() -> None:
    def mixed(word: int) -> int:
        word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        word = (word ^ word >> 27) * 0x94D049BB133111EB % 2**64
        return word ^ word >> 31

    expected = []
    for user, size in (("ü", 3), ("", 2)):
        text = (4).to_bytes(8, "big") + b"test" + user.encode()
        key = hashlib.blake2b(text, digest_size=16, person=b"sample id").digest()
        for position in range(size):
            first = mixed((int.from_bytes(key[:8], "little") + position * 0x9E3779B97F4A7C15) % 2**64)
            second = mixed(int.from_bytes(key[8:], "little") ^ first)
            expected.append(first.to_bytes(8, "little") + second.to_bytes(8, "little"))
    assert sample_ids("test", pa.array(["ü", ""], pa.string()), np.array([3, 2])).to_pylist() == expected


def test_sample_ids_never_coincide_for_texts_that_join_alike() -> None:
    ids = [
        *sample_ids("ab", pa.array(["c", "cd"], pa.string()), np.array([1000, 1000])).to_pylist(),
        *sample_ids("a", pa.array(["bc", "bcd"], pa.string()), np.array([1000, 1000])).to_pylist(),
        *sample_ids("", pa.array(["abc", ""], pa.string()), np.array([1000, 1000])).to_pylist(),
    ]
    assert len(set(ids)) == 6000
    assert sample_ids("x", pa.array([], pa.string()), np.zeros(0, dtype=np.int64)).to_pylist() == []


def test_bits_of_sample_ids_are_even() -> None:
    ids = sample_ids("test", pa.array(["u", "v"], pa.string()), np.array([20_000, 20_000]))
    bits = np.unpackbits(np.frombuffer(b"".join(ids.to_pylist()), dtype=np.uint8).reshape(-1, 16), axis=1)
    # Five standard deviations of the share of ones among 40,000.
    np.testing.assert_allclose(bits.mean(axis=0), 0.5, atol=0.0125)


def test_training_target_counts_leave_out_held_out_events_and_those_without_history() -> None:
    config = mapping()
    rows: list[tuple[str, int, str, str | None]] = [
        ("u", step, name, None) for step, name in enumerate("abacabadae")
    ]
    timelines, counts = build_timelines(event_table(rows, config), config, SplitConfig(), 1, "test")
    assert timelines["split"].to_pylist() == [0] * 8 + [1, 2]
    assert training_target_counts(timelines) == {"b": 2, "a": 3, "c": 1, "d": 1}
    assert (counts["train_targets"], counts["validation_targets"], counts["test_targets"]) == (7, 1, 1)
    assert (counts["users"], counts["users_all_train"]) == (1, 0)


def test_counts_of_partitions_add_up_to_those_of_the_whole() -> None:
    config = mapping(exact_duplicates="drop")
    generator = random.Random(0)
    rows: list[tuple[str, int, str, str | None]] = [
        (f"u{generator.randrange(20)}", generator.randrange(30), generator.choice("abc"), None)
        for _ in range(600)
    ]
    events = event_table(rows, config)
    whole, expected = build_timelines(events, config, SplitConfig(), 1, "test")
    in_first = pc.less(events["user"], "u2")
    parts = [
        build_timelines(events.filter(mask), config, SplitConfig(), 1, "test")
        for mask in (in_first, pc.invert(in_first))
    ]
    assert {name: sum(counts[name] for _, counts in parts) for name in expected} == expected
    assert pa.concat_tables([part for part, _ in parts]).equals(whole)


def test_an_empty_log_gives_an_empty_timeline_that_the_vocabulary_refuses() -> None:
    config = mapping()
    for split in (SplitConfig(), SplitConfig(by="group")):
        timelines, counts = build_timelines(events_schema(config).empty_table(), config, split, 1, "test")
        assert timelines.schema == timeline_schema(config)
        assert set(counts.values()) == {0}
    with pytest.raises(DataError, match="the log is empty"):
        build_vocabulary(training_target_counts(timelines), VocabularyConfig())


def test_whole_groups_are_split_and_a_user_in_two_groups_is_refused() -> None:
    config = mapping(group="team")
    rows: list[tuple[str, int, str, str | None]] = [
        ("u", 1, "a", None),
        ("u", 2, "b", None),
        ("v", 1, "a", None),
    ]
    torn = event_table(rows, config, group=["g", "h", "h"])
    with pytest.raises(DataError, match=r"user 'u' is in the groups 'g' and 'h'.*events\.group"):
        build_timelines(torn, config, SplitConfig(by="group"), 1, "test")
    build_timelines(torn, config, SplitConfig(by="time"), 1, "test")
    whole = event_table(rows, config, group=["g", "g", "g"])
    timelines, _ = build_timelines(whole, config, SplitConfig(by="group", test=0.4), 1, "test")
    assert len(set(timelines["split"].to_pylist())) == 1


def test_a_split_by_column_follows_the_events_and_needs_the_column() -> None:
    config = mapping(split_column="part")
    rows: list[tuple[str, int, str, str | None]] = [("u", 2, "a", None), ("u", 1, "b", None)]
    events = event_table(rows, config, split_label=["test", "train"])
    timelines, _ = build_timelines(events, config, SplitConfig(by="column"), 0, "test")
    assert timelines["split"].to_pylist() == [0, 2]
    with pytest.raises(ConfigError, match=r"events\.split_column"):
        build_timelines(event_table(rows, mapping()), mapping(), SplitConfig(by="column"), 0, "test")


def test_zoned_and_naive_times_from_different_batches_are_refused() -> None:
    config = mapping(order={"column": "step"})
    rows: list[tuple[str, int, str, str | None]] = [("u", 1, "a", None), ("u", 2, "b", None)]
    events = event_table(rows, config, is_zoned=[True, False])
    with pytest.raises(DataError, match=r"file 0, row 1.*file 1, row 1.*events\.order\.time_zone"):
        build_timelines(events, config, SplitConfig(), 1, "test")


def test_a_user_with_200000_events_is_one_timeline(tmp_path: Path) -> None:
    count = 200_000
    generator = np.random.default_rng(0)
    order = generator.permutation(count)
    behavior = generator.integers(0, 50, size=count)
    lines = [f"big,b{name},{step},home" for name, step in zip(behavior.tolist(), order.tolist(), strict=True)]
    (tmp_path / "log.csv").write_text(
        "who,what,step,place\n" + "\n".join([*lines, "small,b0,1,", "small,b1,2,"])
    )
    config = mapping(paths=[str(tmp_path / "log.csv")])
    timelines, counts = build_timelines(read_events(config)[0], config, SplitConfig(), 1, "test")
    assert counts["users"] == 2 and counts["users_all_train"] == 1
    assert (counts["validation_events"], counts["test_events"]) == (20_000, 20_000)
    position = timelines["position"].to_numpy()
    assert np.array_equal(position, [*range(count), 0, 1])
    assert np.array_equal(timelines["order"].to_numpy()[:count], np.arange(count))
    expected = np.empty(count, dtype=np.int64)
    expected[order] = behavior
    assert timelines["behavior"].to_pylist()[:count] == [f"b{name}" for name in expected]
    assert pc.count_distinct(timelines["sample_id"]).as_py() == count + 2


def read_events(config: EventsConfig) -> tuple[pa.Table, dict[str, int]]:
    files = find_files(config).files
    check_columns(config, files)
    events, quarantine = [], []
    for index, source in enumerate(files):
        for raw, malformed in read_table_batches(source, config):
            usable, unusable = normalize(raw, malformed, index, source.path, config)
            events.append(usable)
            quarantine.append(unusable)
    table = pa.concat_tables(events)
    reasons = dict(Counter(pa.concat_tables(quarantine)["reason"].to_pylist()))
    check_quarantine(reasons, table.num_rows, config)
    return table, reasons


def test_the_real_logs_give_the_counts_that_their_description_states() -> None:
    if not REAL_LOGS.is_dir():
        print(f"the real logs are not here ({REAL_LOGS}); nothing was checked")
        return
    homes = mapping(
        paths=[str(REAL_LOGS / "smartthings_us")],
        user="home",
        behavior="action",
        group="group",
        context_before=["weekday", "hours"],
    )
    events, reasons = read_events(homes)
    timelines, counts = build_timelines(events, homes, SplitConfig(by="group"), 1, "smartthings_us")
    assert (counts["events"], counts["users"], reasons) == (67_890, 6_789, {})
    assert pc.count_distinct(timelines["group"]).as_py() == 5_581
    assert pc.count_distinct(timelines["behavior"]).as_py() == 122

    shell = mapping(
        paths=[str(REAL_LOGS / "kypo_shell" / "*.jsonl.gz")],
        user="trainee",
        behavior="tool",
        order={"column": "timestamp"},
        context_before=[],
        context_after=["shell", "directory"],
        clock=["weekday", "hour"],
    )
    events, reasons = read_events(shell)
    timelines, counts = build_timelines(events, shell, SplitConfig(), 1, "kypo_shell")
    assert (counts["events"] + sum(reasons.values()), counts["users"]) == (21_089, 267)
    assert reasons == {"over-long behavior": 3}
    assert pc.count_distinct(timelines["behavior"]).as_py() == 782 - 3
