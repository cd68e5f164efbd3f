"""Which part a user goes to: always the same."""

import numpy as np
import pyarrow as pa
import pytest
import scipy.stats

from behaviorlm.log_files.identity import look_alike_keys
from behaviorlm_ray.preparation import reading
from behaviorlm_ray.preparation.reading import parts_of_users

PARTITIONS = 7
ALL = 2**64 - 1
USERS = ["Ann", "ann", "a_n_n", "bob", "0042", "42", "Zoë", "zoë", "x" * 300]


def alone(user: str) -> int:
    """The part of a user, by itself."""
    key = look_alike_keys(pa.array([user], pa.string()))[0].as_py().encode()
    found = finalized(len(key))
    for begin in range(0, len(key), 8):
        word = key[begin : begin + 8]
        found = finalized(found * 0x9E3779B97F4A7C15 ^ int.from_bytes(word, "little") << 8 * (8 - len(word)))
    return found % PARTITIONS


def finalized(word: int) -> int:
    """SplitMix64's last steps, in Python's integers."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        word = ((word ^ (word & ALL) >> shift) * factor) & ALL
    return word ^ word >> 31


def test_the_part_of_a_user_is_the_same_in_every_batch() -> None:
    random = np.random.default_rng(0)
    for rows in (5, 0, 40, 1, 100):
        users = random.choice(USERS, rows).tolist()
        for kind in (pa.string(), pa.large_string()):
            found = parts_of_users(pa.array(users, kind), PARTITIONS)
            assert found.tolist() == [alone(user) for user in users]


def test_users_go_to_parts_as_if_drawn() -> None:
    """Chi-squared over 64 parts of users that count up, as names of users do; also of a slice of a column."""
    users = pa.array(
        [f"u{number}" for number in range(50_000)] + [f"user-{number:012d}" for number in range(50_000)]
    )
    for column in (users, users.slice(7, 60_000)):
        found = np.bincount(parts_of_users(column, 64), minlength=64)
        assert scipy.stats.chisquare(found).pvalue > 1e-4


def test_a_user_is_hashed_once_in_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []

    def counting(names: pa.Array) -> pa.Array:
        hashed.extend(names.to_pylist())
        return look_alike_keys(names)

    monkeypatch.setattr(reading, "look_alike_keys", counting)
    parts_of_users(pa.array(USERS * 3, pa.string()), PARTITIONS)
    assert sorted(hashed) == sorted(USERS)
