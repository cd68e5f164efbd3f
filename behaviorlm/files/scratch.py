"""Numbers that are too many for memory: in a file that vanishes with the process, and mapped."""

import os
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from behaviorlm.errors import StorageError

IN_MEMORY = 2**26
"""Bytes of arrays that need no file (our choice)."""


class ScratchColumn:
    """A column that grows. What is read of it, the system keeps in memory as long as there is room.

    It lies in the temporary folder (TMPDIR). Raises StorageError where that has no room.
    """

    def __init__(self, kind: type[np.generic]) -> None:
        self._kind = np.dtype(kind)
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as it is mapped
        self._rows = 0

    def append(self, values: NDArray[Any]) -> None:
        """Add rows."""
        try:
            self._file.write(np.ascontiguousarray(values, self._kind).data)
            self._file.flush()
        except OSError as error:
            raise _no_room(error) from None
        self._rows += len(values)

    def whole(self) -> NDArray[Any]:
        """All rows so far, to be read only."""
        if not self._rows:
            return np.zeros(0, self._kind)
        return np.asarray(np.memmap(self._file, self._kind, "r", shape=(self._rows,)))


def scratch_arrays(wanted: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]) -> dict[str, NDArray[Any]]:
    """Arrays of these shapes and kinds, zero at first, that may be written anywhere; large ones lie in one file.

    It is in the temporary folder (TMPDIR) and has its size from the beginning. Raises StorageError where that has no
    room.
    """
    sizes = [int(np.prod(shape)) * kind.itemsize for shape, kind in wanted.values()]
    begins = np.cumsum([0, *(-(-size // 64) * 64 for size in sizes)]).tolist()  # each aligned
    if begins[-1] <= IN_MEMORY:
        return {name: np.zeros(shape, kind) for name, (shape, kind) in wanted.items()}
    with tempfile.TemporaryFile() as file:  # mapped, it stays
        try:
            os.posix_fallocate(file.fileno(), 0, begins[-1])
        except OSError as error:
            raise _no_room(error) from None
        octets = np.asarray(np.memmap(file, np.uint8, "r+", shape=(begins[-1],)))
    return {
        name: octets[begin : begin + size].view(kind).reshape(shape)
        for (name, (shape, kind)), begin, size in zip(wanted.items(), begins[:-1], sizes, strict=True)
    }


def _no_room(error: OSError) -> StorageError:
    return StorageError(
        f"{tempfile.gettempdir()}: numbers of the log cannot be kept ({error}); counting takes some 60 bytes an event, "
        "evaluation some hundred a sample and predictor. Make room, or set TMPDIR to a folder on another disk"
    )
