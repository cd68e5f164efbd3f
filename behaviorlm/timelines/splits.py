"""Training, validation and test: by time within each user, by group, or as a column of the log says."""

import hashlib
import math
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behaviorlm.errors import ConfigError, DataError
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.timelines.config import SplitConfig

TRAIN, VALIDATION, TEST = 0, 1, 2
SPLIT_NAMES = ("train", "validation", "test")
SPLIT_LABELS = {
    "train": TRAIN,
    "training": TRAIN,
    "validation": VALIDATION,
    "valid": VALIDATION,
    "val": VALIDATION,
    "dev": VALIDATION,
    "development": VALIDATION,
    "test": TEST,
    "testing": TEST,
}
"""What a split column may hold, in capitals or small letters. `eval` and `holdout` mean validation to some and test to
others, so they are not among them."""


def check_split_settings(split_config: SplitConfig, events_config: EventsConfig) -> None:
    """Raise ConfigError where the split asks for a column that the mapping does not name."""
    if split_config.by == "column" and events_config.split_column is None:
        raise ConfigError(
            "split.by=column needs events.split_column: the column with train, validation or test"
        )


def check_rows(events: pa.Table, path: str, config: SplitConfig) -> None:
    """Raise DataError, with file and row, for what in some rows of a file already stands against the split.

    That is a label that is none, and a user in two groups where whole groups are split.
    """
    if config.by == "column":
        is_wrong = pc.is_null(_split_of(events["split_label"].combine_chunks()))
        index = pc.index(is_wrong, True).as_py()
        if index >= 0:
            raise DataError(
                f"{path}, row {events['row'][index]}: {_wrong_labels(events['split_label'].filter(is_wrong))}"
            )
    elif config.by == "group":
        torn = events.group_by("user").aggregate([("group", "count_distinct")])
        torn = torn.filter(pc.greater(torn["group_count_distinct"], 1))
        if len(torn):
            user = pc.min(torn["user"])
            rows = events.filter(pc.equal(events["user"], user))
            index = pc.index(pc.not_equal(rows["group"], rows["group"][0]), True).as_py()
            raise DataError(
                f"{path}, rows {rows['row'][0]} and {rows['row'][index]}: "
                f"{torn_user(user.as_py(), rows['group'][0].as_py(), rows['group'][index].as_py())}"
            )


def check_labels(labels: Mapping[str, int]) -> None:
    """Raise DataError where the labels of a whole log, {label: events}, leave nothing to train on."""
    splits = _split_of(pa.array(list(labels), pa.string())).to_pylist()
    if TRAIN not in splits:
        listed = ", ".join(f"{label!r} ({events:,} events)" for label, events in labels.items())
        raise DataError(
            f"events.split_column: no event is in the split train; the column holds {listed or 'nothing'}"
        )


def torn_user(user: str, one: str, other: str) -> str:
    """What is wrong with a user in two groups."""
    return (
        f"user {user!r} is in the groups {one!r} and {other!r}, which split.by=group could tear apart; give each user "
        "one group (events.group), or split by time"
    )


def assign_splits(timelines: pa.Table, config: SplitConfig, whole: int | None = None) -> np.ndarray:
    """Split of every event: int8[n], 0 train, 1 validation, 2 test.

    `timelines` has user, group, split_label, all events of a user together and in order.
    - time: of a user's n events the last floor(n * test) are test and the floor(n * validation) before them
      are validation. A user with too few events for one of each share asked for is all train.
    - group: a hash of seed and group in [0, 1): below `test` test, then below `test + validation` validation.
      Shares hold for groups, on average.
    - column: SPLIT_LABELS. Raises DataError for any other.

    whole: the events are some of one user that has so many in all; their `position` says which.
    """
    if config.by == "time" and whole is not None:
        left = whole - timelines["position"].to_numpy().astype(np.int64)
        return _by_time(np.array([whole]), left, np.zeros(len(left), np.int64), config)
    if config.by == "time":
        starts = user_starts(timelines["user"].combine_chunks())
        sizes = np.diff(np.append(starts, len(timelines)))
        left = np.repeat(starts + sizes, sizes) - np.arange(len(timelines))
        return _by_time(sizes, left, np.repeat(np.arange(len(sizes)), sizes), config)
    if config.by == "group":
        return _by_group(timelines["group"].combine_chunks(), config)
    return _by_column(timelines["split_label"].combine_chunks())


def user_starts(user: pa.Array) -> np.ndarray:
    """Index of the first row of each user's run of rows, int64[number of runs]."""
    if len(user) == 0:
        return np.zeros(0, dtype=np.int64)
    changed = np.asarray(pc.not_equal(user.slice(1), user.slice(0, len(user) - 1)))
    return np.concatenate([[0], np.flatnonzero(changed) + 1]).astype(np.int64)


def _by_time(sizes: np.ndarray, left: np.ndarray, user: np.ndarray, config: SplitConfig) -> np.ndarray:
    """sizes: events of each user; left: of each event, those of its user from it on; user: which one it is of."""
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
    splits = np.full(len(left), TRAIN, dtype=np.int8)
    splits[left <= (test + validation)[user]] = VALIDATION
    splits[left <= test[user]] = TEST
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
    index = _split_of(labels)
    if index.null_count:
        raise DataError(_wrong_labels(labels.filter(pc.is_null(index))))
    return index.to_numpy()


def _split_of(labels: pa.Array) -> pa.Array:
    """int8[n], null for what is no label."""
    folded = pc.utf8_lower(pc.utf8_trim_whitespace(labels))
    found = pc.index_in(folded, value_set=pa.array(list(SPLIT_LABELS)), skip_nulls=True)
    return pa.array(list(SPLIT_LABELS.values()), pa.int8()).take(found)


def _wrong_labels(wrong: pa.Array | pa.ChunkedArray) -> str:
    counted = sorted(wrong.value_counts().to_pylist(), key=lambda entry: -entry["counts"])
    shown = ", ".join(f"{entry['values']!r} ({entry['counts']:,} events)" for entry in counted[:5])
    more = f" and {len(counted) - 5:,} others" if len(counted) > 5 else ""
    return f"events.split_column holds {shown}{more}; allowed are {', '.join(SPLIT_LABELS)}, in any case"
