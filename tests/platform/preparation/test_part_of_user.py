"""Which part a user goes to: always the same."""

import hashlib

import numpy as np
import pyarrow as pa
import pytest

from behaviorlm.log_files.identity import look_alike_keys
from behaviorlm_ray.preparation import reading
from behaviorlm_ray.preparation.reading import parts_of_users

PARTITIONS = 7
USERS = ["Ann", "ann", "a_n_n", "bob", "0042", "42", "Zoë", "zoë", "x" * 300]


def alone(user: str) -> int:
    """The part of a user, by itself."""
    key = look_alike_keys(pa.array([user], pa.string()))[0].as_py()
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") % PARTITIONS


def test_the_part_of_a_user_is_the_same_in_every_batch() -> None:
    random = np.random.default_rng(0)
    for rows in (5, 0, 40, 1, 100):
        users = random.choice(USERS, rows).tolist()
        found = parts_of_users(pa.array(users, pa.string()), PARTITIONS)
        assert found.tolist() == [alone(user) for user in users]


def test_a_user_is_hashed_once_in_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []

    def counting(names: pa.Array) -> pa.Array:
        hashed.extend(names.to_pylist())
        return look_alike_keys(names)

    monkeypatch.setattr(reading, "look_alike_keys", counting)
    parts_of_users(pa.array(USERS * 3, pa.string()), PARTITIONS)
    assert sorted(hashed) == sorted(USERS)
