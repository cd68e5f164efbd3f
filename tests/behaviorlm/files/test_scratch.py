"""Columns in scratch files: what was added is there, mapped, and a full disk is told."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from behaviorlm.errors import StorageError
from behaviorlm.files import scratch
from behaviorlm.files.scratch import ScratchColumn, scratch_arrays


def test_what_was_added_is_mapped_in_order_with_its_kind() -> None:
    column = ScratchColumn(np.int32)
    assert len(column.whole()) == 0 and column.whole().dtype == np.int32
    for values in (np.arange(5), np.zeros(0, np.int64), np.arange(10)[::-2]):
        column.append(values)
    found = column.whole()
    assert found.tolist() == [0, 1, 2, 3, 4, 9, 7, 5, 3, 1] and found.dtype == np.int32
    assert isinstance(found.base, np.memmap) and not found.flags.writeable


def test_large_arrays_lie_in_one_file_and_hold_what_small_ones_do(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {
        "one": ((5, 3), np.dtype(np.int8)),
        "two": ((5,), np.dtype(np.float64)),
    }
    small = scratch_arrays(wanted)
    monkeypatch.setattr(scratch, "IN_MEMORY", 54)
    large = scratch_arrays(wanted)
    for arrays, is_mapped in ((small, False), (large, True)):
        for name, (shape, kind) in wanted.items():
            array = arrays[name]
            assert array.shape == shape and array.dtype == kind and not array.any() and array.flags.aligned
            base = array
            while isinstance(base.base, np.ndarray):
                base = base.base
            assert isinstance(base, np.memmap) == is_mapped
        arrays["one"][[4, 0]] = [[1, 2, 3], [-1, -2, -3]]
        arrays["two"][:] = 7.5
        assert arrays["one"].sum(axis=1).tolist() == [-6, 0, 0, 0, 6]
        assert arrays["two"].tolist() == [7.5] * 5
    empty = {"none": ((0, 3), np.dtype(np.int8))}
    monkeypatch.setattr(scratch, "IN_MEMORY", 0)
    assert scratch_arrays(empty)["none"].shape == (0, 3)


def test_a_full_disk_is_told_before_arrays_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scratch, "IN_MEMORY", 0)
    monkeypatch.setattr(scratch.os, "posix_fallocate", full)
    with pytest.raises(StorageError, match="set TMPDIR"):
        scratch_arrays({"one": ((5,), np.dtype(np.int8))})


def test_a_full_disk_is_told() -> None:
    column = ScratchColumn(np.int64)
    with Path("/dev/full").open("r+b", buffering=0) as full:
        column._file = full  # type: ignore[assignment]
        with pytest.raises(StorageError, match="set TMPDIR"):
            column.append(np.arange(3))
