"""Columns in scratch files: what was added is there, mapped, and a full disk is told."""

from pathlib import Path

import numpy as np
import pytest

from behaviorlm.errors import StorageError
from behaviorlm.files.scratch import ScratchColumn


def test_what_was_added_is_mapped_in_order_with_its_kind() -> None:
    column = ScratchColumn(np.int32)
    assert len(column.whole()) == 0 and column.whole().dtype == np.int32
    for values in (np.arange(5), np.zeros(0, np.int64), np.arange(10)[::-2]):
        column.append(values)
    found = column.whole()
    assert found.tolist() == [0, 1, 2, 3, 4, 9, 7, 5, 3, 1] and found.dtype == np.int32
    assert isinstance(found.base, np.memmap) and not found.flags.writeable


def test_a_full_disk_is_told() -> None:
    column = ScratchColumn(np.int64)
    with Path("/dev/full").open("r+b", buffering=0) as full:
        column._file = full  # type: ignore[assignment]
        with pytest.raises(StorageError, match="set TMPDIR"):
            column.append(np.arange(3))
