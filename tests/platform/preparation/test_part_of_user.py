"""Which part a user goes to: always the same, and found out once."""

import hashlib

import numpy as np
import pyarrow as pa
import pytest

from behaviorlm.log_files.identity import look_alike_keys
from behaviorlm_ray.preparation import reading
from behaviorlm_ray.preparation.reading import PartOfUser

PARTITIONS = 7
USERS = ["Ann", "ann", "a_n_n", "bob", "0042", "42", "Zoë", "zoë", "x" * 300]


def alone(user: str) -> int:
    """The part of a user, by itself."""
    key = look_alike_keys(pa.array([user], pa.string()))[0].as_py()
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") % PARTITIONS


@pytest.mark.parametrize("remembered", [0, 3, 500_000])
def test_the_part_of_a_user_is_the_same_in_every_batch(
    remembered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "KNOWN_USERS", remembered)
    random = np.random.default_rng(0)
    part_of_user = PartOfUser(PARTITIONS)
    for rows in (5, 0, 40, 1, 100):
        users = random.choice(USERS, rows).tolist()
        assert part_of_user(pa.array(users, pa.string())).tolist() == [alone(user) for user in users]


def test_no_user_is_hashed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []

    def counting(names: pa.Array) -> pa.Array:
        hashed.extend(names.to_pylist())
        return look_alike_keys(names)

    monkeypatch.setattr(reading, "look_alike_keys", counting)
    part_of_user = PartOfUser(PARTITIONS)
    for batch in (USERS[:5] * 3, USERS, USERS[2:] * 2):
        part_of_user(pa.array(batch, pa.string()))
    assert sorted(hashed) == sorted(USERS)
