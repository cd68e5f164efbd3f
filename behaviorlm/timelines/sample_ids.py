"""Ids of samples: how they are made, and the forms they take: Arrow columns, octets, keys to compare by."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from behaviorlm.errors import DataError
from behaviorlm.log_files.text import one_chunk

SAMPLE_ID_BYTES = 16
SAMPLE_ID_TYPE = pa.binary(SAMPLE_ID_BYTES)


def sample_ids(dataset: str, users: pa.Array, sizes: np.ndarray, first: int = 0) -> pa.Array:
    """Ids of the samples at positions first .. first+sizes[i]-1 of each user, one user after the other.

    fixed_size_binary(16): the 128-bit BLAKE2b hash of (dataset, user), lengths included, mixed with the
    position by two bijective 64-bit mixers (SplitMix64). Within a user two ids are never equal; between users
    they are as unlikely to be as for any 128-bit hash. Hashing once a user, not once a row, keeps it fast.
    """
    name = dataset.encode()
    begun = hashlib.blake2b(
        len(name).to_bytes(8, "big") + name, digest_size=SAMPLE_ID_BYTES, person=b"sample id"
    )
    keys = np.frombuffer(b"".join(digests(begun, users)), dtype="<u8").reshape(-1, 2)
    keys = np.repeat(keys, sizes, axis=0)
    position = np.arange(int(np.sum(sizes)), dtype=np.uint64)
    position -= np.repeat(np.cumsum(sizes) - sizes, sizes).astype(np.uint64)
    position += np.uint64(first)
    words = np.empty_like(keys)
    words[:, 0] = mixed(keys[:, 0] + position * np.uint64(0x9E3779B97F4A7C15))
    words[:, 1] = mixed(np.bitwise_xor(keys[:, 1], words[:, 0]))
    return id_column(np.ascontiguousarray(words, dtype="<u8").view(np.uint8))


def digests(begun: "hashlib.blake2b", texts: pa.Array) -> list[bytes]:
    """The hash of each text (no nulls) behind what `begun` has taken in."""
    found = []
    for text in texts.cast(pa.binary()).to_pylist():
        one = begun.copy()
        one.update(text)
        found.append(one.digest())
    return found


def text_hashes(texts: pa.Array) -> NDArray[np.uint64]:
    """A hash of each text (string[n], no nulls), uint64[n]: its length and words of eight bytes, mixed one by one.

    It takes a small part of what a cryptographic one does, and does not stop who makes up names that collide.
    """
    texts = texts.cast(pa.string())  # whose offsets are int32
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset :][: len(texts) + 1].astype(np.int64)
    octets = np.frombuffer(texts.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
    padded = np.append(octets, np.zeros(8, np.uint8))
    words = np.ndarray(len(octets) + 1, "<u8", padded.data, strides=(1,))  # one from each byte on
    left, begin = np.diff(offsets), offsets[:-1] - offsets[0]
    found = mixed(left.astype(np.uint64))
    rows = np.flatnonzero(left > 0)
    while len(rows):
        unused = np.uint64(8) * (8 - np.minimum(left[rows], 8)).astype(np.uint64)
        word = words[begin[rows]] << unused  # without what follows the text
        found[rows] = mixed(found[rows] * np.uint64(0x9E3779B97F4A7C15) ^ word)
        begin[rows] += 8
        left[rows] -= 8
        rows = rows[left[rows] > 0]
    return found


def mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finalizer: a bijection of 64 bits (Steele, Lea, Flood 2014)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def id_column(octets: NDArray[np.uint8]) -> pa.Array:
    """Ids as an Arrow column, from uint8 [n, 16]."""
    buffer = pa.py_buffer(np.ascontiguousarray(octets))
    return pa.Array.from_buffers(SAMPLE_ID_TYPE, len(octets), [None, buffer])


def id_octets(ids: pa.Array | pa.ChunkedArray | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Ids as uint8 [n, 16], not copied where they lie in one piece. Raises DataError for what holds no such ids."""
    if isinstance(ids, pa.ChunkedArray):
        ids = one_chunk(ids)
    if isinstance(ids, pa.Array):
        if ids.type != SAMPLE_ID_TYPE or ids.null_count:
            raise DataError(f"sample ids must be fixed_size_binary(16) without nulls, got {ids.type}")
        start = ids.offset * SAMPLE_ID_BYTES
        octets = np.frombuffer(ids.buffers()[1], np.uint8)[start : start + SAMPLE_ID_BYTES * len(ids)]
        return octets.reshape(-1, SAMPLE_ID_BYTES)
    octets = np.asarray(ids)
    if octets.dtype != np.uint8 or octets.ndim != 2 or octets.shape[1] != SAMPLE_ID_BYTES:
        raise DataError(f"sample ids must be uint8[n, 16], got {octets.dtype}{list(octets.shape)}")
    return octets


def id_keys(octets: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """Ids as S16 [n], to compare and look up, from uint8 [n, 16]."""
    return np.ascontiguousarray(octets).view(f"S{SAMPLE_ID_BYTES}")[:, 0]


def id_words(
    ids: pa.Array | pa.ChunkedArray | NDArray[np.uint8],
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The two halves of each id as uint64 [n]; comparing (high, low) compares the bytes. See `id_octets`."""
    words = np.ascontiguousarray(id_octets(ids)).view(">u8").astype(np.uint64)
    return words[:, 0], words[:, 1]


def uniform_keys(high: NDArray[np.uint64], low: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """A pseudo-random uint64 of each id and the seed (SplitMix64's finalizer over both halves)."""
    with np.errstate(over="ignore"):
        start = np.uint64((seed * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) % 2**64)
        return mixed(mixed(high ^ start) + low)


def place_within(behavior: NDArray[np.integer], keys: Sequence[NDArray]) -> NDArray[np.int64]:
    """Each row's place among the rows of its behavior when sorted by the keys, first key first; int64 [n]."""
    order = np.lexsort((*reversed(keys), behavior))
    sorted_behavior = behavior[order]
    starts = np.flatnonzero(np.append(True, sorted_behavior[1:] != sorted_behavior[:-1]))
    lengths = np.diff(np.append(starts, len(order)))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) - np.repeat(starts, lengths)
    return place
