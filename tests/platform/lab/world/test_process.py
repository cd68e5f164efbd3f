"""The synthetic worlds: logs are reproducible, have a long tail, and causes bring about their effects."""

import gzip
import hashlib
import json
from collections import Counter
from datetime import datetime
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from behaviorlm.errors import ConfigError, StorageError
from behaviorlm_lab.truth.description import describe, log_statistics
from behaviorlm_lab.world import log
from behaviorlm_lab.world.errands import errands_world
from behaviorlm_lab.world.generator import Event, Generator
from behaviorlm_lab.world.log import log_rows, part_count, write_part
from behaviorlm_lab.world.process import PLACES, WORLD_VERSION, default_world, simulate_user
from tests.platform.lab.world_logs import write_log

WORLD, ERRANDS = default_world(), errands_world()
FROZEN = {
    "main-2": "f74cf0b271ab50555d128adcbb5108e34ec03976f6af55d3594d7f5800f997da",
    "errands-1": "3e5c9ff3b6084a0307fd7d05868b058e7fc8d22cd9530a0c0442f1dbfc2a0eb3",
}


@cache
def timelines() -> list[list[Event]]:
    return [simulate_user(WORLD, 5, user) for user in range(600)]


@pytest.mark.parametrize("world", [WORLD, ERRANDS], ids=["main", "errands"])
def test_the_worlds_are_frozen_with_their_versions(world: Generator) -> None:
    """Whoever changes what a log holds raises the version, and lists results before and after."""
    rows = "".join(json.dumps(row) + "\n" for row in log_rows(world, range(30), seed=0))
    assert hashlib.sha256(rows.encode()).hexdigest() == FROZEN[world.version]
    assert WORLD_VERSION == 2


def test_the_same_seed_writes_the_same_bytes_whatever_the_file_is_called(tmp_path: Path) -> None:
    for name in ("one.jsonl.gz", "two.jsonl.gz"):
        write_log(tmp_path / name, users=20, seed=3)
    write_log(tmp_path / "other.jsonl.gz", users=20, seed=4)
    one, two, other = ((tmp_path / f"{name}.jsonl.gz").read_bytes() for name in ("one", "two", "other"))
    assert one == two
    assert gzip.decompress(one) != gzip.decompress(other)


def test_parts_in_any_order_hold_the_log_as_one_file_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "USERS_PER_PART", 3)
    assert part_count(8) == 3
    events = [write_part(tmp_path, part, 8, 1, (5, 9), WORLD) for part in (2, 0, 1)]
    assert write_log(tmp_path / "whole.jsonl.gz", 8, 1, (5, 9)) == sum(events)
    parts = [gzip.decompress((tmp_path / f"part-{part:05d}.jsonl.gz").read_bytes()) for part in range(3)]
    assert b"".join(parts) == gzip.decompress((tmp_path / "whole.jsonl.gz").read_bytes())


def test_a_written_log_has_the_promised_columns_users_and_order(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "log.jsonl.gz"
    count = write_log(path, users=15, seed=0, events_per_user=(3, 5))
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    assert len(rows) == count and all(tuple(row) == ("user", "time", "behavior", "place") for row in rows)
    per_user = Counter(row["user"] for row in rows)
    assert len(per_user) == 15 and min(per_user.values()) >= 3 and max(per_user.values()) <= 5
    keys = [(row["user"], datetime.fromisoformat(row["time"])) for row in rows]
    assert keys == sorted(keys) and len(set(keys)) == len(keys)
    assert {row["place"] for row in rows} <= set(PLACES)


@pytest.mark.parametrize(("world", "common", "rare"), [(WORLD, 12, 28), (ERRANDS, 11, 22)])
def test_common_behaviors_are_above_one_percent_and_the_tail_below(
    world: Generator, common: int, rare: int
) -> None:
    counts = Counter(event.behavior for user in range(1000) for event in simulate_user(world, 6, user))
    total = counts.total()
    is_common = dict(zip(world.names, world.is_common, strict=True))
    assert (sum(is_common.values()), len(world.names)) == (common, common + rare)
    assert {name for name in world.names if counts[name] / total > 0.01} == {
        name for name in world.names if is_common[name]
    }
    assert all(counts[name] / total > 0.002 for name in world.names)


def test_the_log_resembles_the_real_ones_as_the_docs_say() -> None:
    """The five numbers of docs/world.md, for version 2; a real log's are given there."""
    statistics = log_statistics([[event.behavior for event in timeline] for timeline in timelines()])
    assert statistics.anchors == 12
    assert 0.27 < statistics.repeat_rate < 0.31
    assert 1.16 < statistics.tail_exponent < 1.43
    assert 3.66 < statistics.entropy < 4.43
    assert 2.7 < statistics.conditional_entropy < 3.1
    assert 0.83 < statistics.anchor_share < 0.88


def test_statistics_of_a_log_by_hand() -> None:
    statistics = log_statistics([["a", "a", "b"], ["b", "a"]])
    assert (statistics.events, statistics.behaviors, statistics.anchors) == (5, 2, 2)
    assert statistics.repeat_rate == pytest.approx(1 / 3)
    assert statistics.largest_share == pytest.approx(0.6) and statistics.anchor_share == 1
    assert statistics.entropy == pytest.approx(-(0.6 * np.log2(0.6) + 0.4 * np.log2(0.4)))
    assert statistics.conditional_entropy == pytest.approx(2 / 3)
    assert any(line.startswith("argmax p*") for line in describe(WORLD, 20, 0))


def test_most_causes_are_followed_by_their_effect_within_six_events() -> None:
    followed: dict[str, list[bool]] = {effect: [] for _, effect in WORLD.links}
    elsewhere: list[bool] = []
    for timeline in timelines():
        names = [event.behavior for event in timeline]
        for position in range(len(names) - 6):
            for cause, effect in WORLD.links:
                happened = effect in names[position + 1 : position + 7]
                if names[position] == cause:
                    followed[effect].append(happened)
                elif position % 10 == 0 and cause not in names[max(0, position - 6) : position + 7]:
                    elsewhere.append(happened)
    assert np.mean([np.mean(values) for values in followed.values()]) > 0.75
    assert min(np.mean(values) for values in followed.values()) > 0.55
    assert np.mean(elsewhere) < 0.02


def test_times_tell_nothing_about_who_somebody_is_or_what_goes_on() -> None:
    """Two worlds that differ in everything but the clock show the same spread of gaps and hours."""
    lives = [WORLD.simulate_life(4, user, (20, 20)) for user in range(500)]
    by_job: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for life in lives:
        by_job[int(WORLD.persona_job[life.persona])] += [event.time.hour for event in life.events]
    means = [np.mean(hours) for hours in by_job.values()]
    assert max(means) - min(means) < 0.5
    in_burst = [
        e.time.hour for life in lives for e, state in zip(life.events, life.states, strict=True) if state
    ]
    outside = [
        e.time.hour for life in lives for e, state in zip(life.events, life.states, strict=True) if not state
    ]
    assert abs(np.mean(in_burst) - np.mean(outside)) < 0.5


def test_bad_arguments_and_unwritable_places_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="users=0"):
        write_log(tmp_path / "log.jsonl.gz", users=0)
    with pytest.raises(ConfigError, match="seed=-1"):
        write_log(tmp_path / "log.jsonl.gz", seed=-1)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        write_log(tmp_path / "file" / "log.jsonl.gz", users=1)
