"""Columns of numbers that are too long for memory: written to a file that vanishes with the process, and mapped."""

import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from behaviorlm.errors import StorageError


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
            raise StorageError(
                f"{tempfile.gettempdir()}: numbers of the log cannot be kept ({error}); they take some 20 bytes an "
                "event. Make room, or set TMPDIR to a folder on another disk"
            ) from None
        self._rows += len(values)

    def whole(self) -> NDArray[Any]:
        """All rows so far, to be read only."""
        if not self._rows:
            return np.zeros(0, self._kind)
        return np.asarray(np.memmap(self._file, self._kind, "r", shape=(self._rows,)))
