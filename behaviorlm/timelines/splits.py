"""Training, validation and test: by time within each user, by group, or as a column of the log says."""

import hashlib
import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behaviorlm.errors import ConfigError, DataError
from behaviorlm.events.config import EventsConfig
from behaviorlm.timelines.config import SplitConfig

TRAIN, VALIDATION, TEST = 0, 1, 2
SPLIT_NAMES = ("train", "validation", "test")


def check_split_settings(split_config: SplitConfig, events_config: EventsConfig) -> None:
    """Raise ConfigError where the split asks for a column that the mapping does not name."""
    if split_config.by == "column" and events_config.split_column is None:
        raise ConfigError(
            "split.by=column needs events.split_column: the column with train, validation or test"
        )


def assign_splits(timelines: pa.Table, config: SplitConfig) -> np.ndarray:
    """Split of every event: int8[n], 0 train, 1 validation, 2 test.

    `timelines` has user, group, split_label, all events of a user together and in order.
    - time: of a user's n events the last floor(n * test) are test and the floor(n * validation) before them
      are validation. A user with too few events for one of each share asked for is all train.
    - group: a hash of seed and group in [0, 1): below `test` test, then below `test + validation` validation.
      Shares hold for groups, on average.
    - column: the labels train, validation, test. Raises DataError for any other.
    """
    if config.by == "time":
        return _by_time(timelines["user"].combine_chunks(), config)
    if config.by == "group":
        return _by_group(timelines["group"].combine_chunks(), config)
    return _by_column(timelines["split_label"].combine_chunks())


def user_starts(user: pa.Array) -> np.ndarray:
    """Index of the first row of each user's run of rows, int64[number of runs]."""
    if len(user) == 0:
        return np.zeros(0, dtype=np.int64)
    changed = np.asarray(pc.not_equal(user.slice(1), user.slice(0, len(user) - 1)))
    return np.concatenate([[0], np.flatnonzero(changed) + 1]).astype(np.int64)


def _by_time(user: pa.Array, config: SplitConfig) -> np.ndarray:
    starts = user_starts(user)
    sizes = np.diff(np.append(starts, len(user)))
    # 0.29 * 100 is a hair below 29 in floating point.
    test = np.floor(sizes * config.test + 1e-9).astype(np.int64)
    validation = np.floor(sizes * config.validation + 1e-9).astype(np.int64)
    too_few = np.zeros(len(sizes), dtype=bool)
    if config.test:
        too_few |= test == 0
    if config.validation:
        too_few |= validation == 0
    test[too_few] = 0
    validation[too_few] = 0
    left = np.repeat(starts + sizes, sizes) - np.arange(len(user))
    splits = np.full(len(user), TRAIN, dtype=np.int8)
    splits[left <= np.repeat(test + validation, sizes)] = VALIDATION
    splits[left <= np.repeat(test, sizes)] = TEST
    return splits


def _by_group(group: pa.Array, config: SplitConfig) -> np.ndarray:
    encoded = group.dictionary_encode()
    shares = np.array([_hash_share(config.seed, name) for name in encoded.dictionary.to_pylist()])
    splits = np.full(len(shares), TRAIN, dtype=np.int8)
    splits[shares < config.test + config.validation] = VALIDATION
    splits[shares < config.test] = TEST
    return splits[encoded.indices.to_numpy()]


def _hash_share(seed: int, group: str) -> float:
    digest = hashlib.blake2b(f"{seed}:{group}".encode(), digest_size=8, person=b"split by group").digest()
    # 53 bits are what a float64 holds below 1.
    return math.ldexp(int.from_bytes(digest, "big") >> 11, -53)


def _by_column(labels: pa.Array) -> np.ndarray:
    index = pc.index_in(labels, value_set=pa.array(SPLIT_NAMES))
    if index.null_count:
        wrong = labels.filter(pc.is_null(index))
        shown = ", ".join(
            f"{entry['values']!r} ({entry['counts']:,} events)"
            for entry in wrong.value_counts().to_pylist()[:5]
        )
        raise DataError(f"events.split_column holds {shown}; allowed are {', '.join(SPLIT_NAMES)}")
    return index.to_numpy().astype(np.int8)
