"""The synthetic world: its logs are reproducible, have a long tail, and causes raise their effects."""

import gzip
import json
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from behaviorlm.errors import ConfigError, StorageError
from behaviorlm.world.log import LOG_COLUMNS, log_rows, write_log
from behaviorlm.world.process import (
    EFFECT_HAZARD,
    EFFECT_WINDOW,
    PLACES,
    WORLD_VERSION,
    default_world,
    draw_person,
    next_behavior_probabilities,
    simulate_user,
    waiting_effects,
)

WORLD = default_world()
TIMELINES = [simulate_user(WORLD, 5, user) for user in range(400)]


def test_the_same_seed_writes_the_same_bytes_whatever_the_file_is_called(tmp_path: Path) -> None:
    for name in ("one.jsonl.gz", "two.jsonl.gz"):
        write_log(tmp_path / name, users=20, seed=3)
    write_log(tmp_path / "other.jsonl.gz", users=20, seed=4)
    one, two, other = ((tmp_path / f"{name}.jsonl.gz").read_bytes() for name in ("one", "two", "other"))
    assert one == two
    assert gzip.decompress(one) != gzip.decompress(other)


def test_a_log_can_be_made_in_shares() -> None:
    whole = list(log_rows(WORLD, range(6), seed=1))
    assert whole == [*log_rows(WORLD, range(4), seed=1), *log_rows(WORLD, range(4, 6), seed=1)]


def test_a_written_log_has_the_promised_columns_users_and_order(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "log.jsonl.gz"
    count = write_log(path, users=15, seed=0, events_per_user=(3, 5))
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    assert len(rows) == count and all(tuple(row) == LOG_COLUMNS for row in rows)
    per_user = Counter(row["user"] for row in rows)
    assert len(per_user) == 15 and min(per_user.values()) >= 3 and max(per_user.values()) <= 5
    keys = [(row["user"], datetime.fromisoformat(row["time"])) for row in rows]
    assert keys == sorted(keys) and len(set(keys)) == len(keys)
    assert {row["place"] for row in rows} <= set(PLACES)


def test_ten_behaviors_are_above_one_percent_and_fourteen_below() -> None:
    counts = Counter(event.behavior for timeline in TIMELINES for event in timeline)
    total = sum(counts.values())
    common = {behavior.name for behavior in WORLD.behaviors if behavior.is_common}
    assert {name for name in WORLD.names if counts[name] / total > 0.01} == common
    assert (len(common), len(WORLD.names)) == (10, 24)
    assert all(counts[name] / total > 0.003 for name in WORLD.names)


def test_most_causes_are_followed_by_their_effect_within_the_window_and_hardly_anything_else_is() -> None:
    for cause, effect in WORLD.links:
        followed, elsewhere = [], []
        for timeline in TIMELINES:
            names = [event.behavior for event in timeline]
            for position in range(len(names) - EFFECT_WINDOW):
                happened = effect in names[position + 1 : position + 1 + EFFECT_WINDOW]
                if names[position] == cause:
                    followed.append(happened)
                elif cause not in names[max(0, position - EFFECT_WINDOW) : position + EFFECT_WINDOW]:
                    elsewhere.append(happened)
        assert len(followed) >= 30
        assert np.mean(followed) > 0.65 and np.mean(elsewhere) < 0.05


def test_logs_are_drawn_from_the_stated_probabilities() -> None:
    """The sum of log p over the drawn events, against its expectation under p: within 4 standard errors."""
    surprise, variance = 0.0, 0.0
    for user in range(60):
        timeline = simulate_user(WORLD, 9, user)
        person = draw_person(WORLD, np.random.default_rng([WORLD_VERSION, 9, user]))
        history: list[int] = []
        for event in timeline:
            p = next_behavior_probabilities(WORLD, person, history, event.time)
            drawn = WORLD.names.index(event.behavior)
            assert p[drawn] > 0
            mean = float(np.sum(p * np.log(p)))
            surprise += float(np.log(p[drawn])) - mean
            variance += float(np.sum(p * np.log(p) ** 2)) - mean**2
            history.append(drawn)
    assert abs(surprise) < 4 * np.sqrt(variance)


def test_probabilities_sum_to_one_and_a_waiting_effect_has_its_hazard() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        person = draw_person(WORLD, random)
        history = random.integers(0, len(WORLD.names), int(random.integers(0, 12))).tolist()
        time = datetime(2025, 1, 6) + timedelta(hours=int(random.integers(0, 24 * 14)))
        p = next_behavior_probabilities(WORLD, person, history, time)
        assert p.shape == (24,) and (p > 0).all() and p.sum() == pytest.approx(1, abs=1e-12)
        waiting = waiting_effects(WORLD, history)
        if waiting:
            assert p[waiting[0]] >= EFFECT_HAZARD


def test_an_effect_stops_waiting_once_it_happened_or_the_window_is_over() -> None:
    flight, check_in, taxi, music = (
        WORLD.names.index(name) for name in ("book a flight", "check in", "call a taxi", "open music")
    )
    assert waiting_effects(WORLD, [flight]) == [check_in]
    assert waiting_effects(WORLD, [flight, music, check_in]) == [taxi]
    assert waiting_effects(WORLD, [flight] + [music] * (EFFECT_WINDOW - 1)) == [check_in]
    assert waiting_effects(WORLD, [flight] + [music] * EFFECT_WINDOW) == []


def test_people_have_habits_and_the_clock_matters() -> None:
    index = WORLD.names.index("read the news")
    people = [draw_person(WORLD, np.random.default_rng(seed)) for seed in range(200)]
    morning, night = (
        np.array(
            [next_behavior_probabilities(WORLD, p, [], datetime(2025, 1, 6, hour))[index] for p in people]
        )
        for hour in (8, 23)
    )
    assert morning.mean() > 2 * night.mean()
    assert morning.std() > 0.3 * morning.mean()


def test_bad_arguments_and_unwritable_places_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="users=0"):
        write_log(tmp_path / "log.jsonl.gz", users=0)
    with pytest.raises(ConfigError, match="seed=-1"):
        write_log(tmp_path / "log.jsonl.gz", seed=-1)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        write_log(tmp_path / "file" / "log.jsonl.gz", users=1)
