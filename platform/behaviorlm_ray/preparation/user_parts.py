"""Which part a user goes to."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from behaviorlm.log_files.identity import look_alike_keys
from behaviorlm.timelines.sample_ids import digests

MOST_REMEMBERED = 1 << 20
"""Users whose parts are kept, some 30 MB with short names (our choice)."""


class UserParts:
    """The part of each user, by a hash of what users that look alike have in common.

    State: users seen so far with their parts, for looking a name up costs a tenth of hashing it. Once there are more
    than can be kept, and most of a batch were not among them, none is looked up any more.
    """

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._most = MOST_REMEMBERED
        self._users = pa.array([], pa.string())
        self._part = np.zeros(0, np.uint16)

    def of(self, users: pa.Array) -> NDArray[np.uint16]:
        """The part of each user; users: string[n] without nulls. Returns uint16[n]."""
        encoded = users.dictionary_encode()
        names = encoded.dictionary
        place = pc.index_in(names, self._users).fill_null(-1).to_numpy(zero_copy_only=False)
        part = np.append(self._part, np.uint16(0))[place]
        new = np.flatnonzero(place < 0)
        part[new] = self._hashed(names.take(pa.array(new)))
        self._remember(names.take(pa.array(new)), part[new], len(names))
        return part[encoded.indices.to_numpy()]

    def _hashed(self, names: pa.Array) -> NDArray[np.uint16]:
        hashed = b"".join(digests(hashlib.blake2b(digest_size=8), look_alike_keys(names)))
        return (np.frombuffer(hashed, ">u8") % np.uint64(self._partitions)).astype(np.uint16)

    def _remember(self, names: pa.Array, part: NDArray[np.uint16], looked_up: int) -> None:
        if len(self._users) + len(names) <= self._most:
            self._users = pa.concat_arrays([self._users, names])
            self._part = np.append(self._part, part)
        elif 2 * len(names) > looked_up:
            self._users, self._part, self._most = self._users[:0], self._part[:0], 0
