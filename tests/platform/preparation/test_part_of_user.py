"""Which part a user goes to: always the same."""

import hashlib

import numpy as np
import pyarrow as pa
import pytest

from behaviorlm.log_files.identity import look_alike_keys
from behaviorlm_ray.preparation import user_parts
from behaviorlm_ray.preparation.user_parts import UserParts

PARTITIONS = 7
USERS = ["Ann", "ann", "a_n_n", "bob", "0042", "42", "Zoë", "zoë", "x" * 300]


def alone(user: str) -> int:
    """The part of a user, by itself."""
    key = look_alike_keys(pa.array([user], pa.string()))[0].as_py()
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") % PARTITIONS


@pytest.mark.parametrize("remembered", [0, 3, 1000])
def test_the_part_of_a_user_is_the_same_in_every_batch(
    remembered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_parts, "MOST_REMEMBERED", remembered)
    random, parts = np.random.default_rng(0), UserParts(PARTITIONS)
    for rows in (5, 0, 2, 40, 1, 100):
        users = random.choice(USERS, rows).tolist()
        found = parts.of(pa.array(users, pa.string()))
        assert found.tolist() == [alone(user) for user in users]


def test_a_user_is_hashed_once_in_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []

    def counting(names: pa.Array) -> pa.Array:
        hashed.extend(names.to_pylist())
        return look_alike_keys(names)

    monkeypatch.setattr(user_parts, "look_alike_keys", counting)
    parts = UserParts(PARTITIONS)
    for _ in range(3):
        parts.of(pa.array(USERS * 3, pa.string()))
    assert sorted(hashed) == sorted(USERS)
