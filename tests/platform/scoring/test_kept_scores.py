"""Which files of scores are kept: whole ones of the same owner, each window once."""

import errno
import os
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behaviorlm_ray.scoring.kept_scores import CutShort, keep_scores, write_scores

OWNER = "score-0123456789abcdef/scores/model"


def table(windows: list[tuple[int, tuple[int, ...]]], seed: int = 0) -> pa.Table:
    generator = np.random.default_rng(seed)
    scores = [generator.normal(size=3 * len(rows)).astype(np.float32) for _, rows in windows]
    return pa.table(
        {
            "part": pa.array([part for part, _ in windows], pa.int64()),
            "rows": pa.array([list(rows) for _, rows in windows], pa.list_(pa.int64())),
            "label_scores": pa.array(scores, pa.list_(pa.float32())),
        }
    )


def write(
    folder: Path, name: str, windows: list[tuple[int, tuple[int, ...]]], owner: str = OWNER
) -> pa.Table:
    folder.mkdir(exist_ok=True)
    written = table(windows)
    write_scores(folder / name, written, owner, 7)
    return written


FIRST, SECOND, THIRD = (0, (1, 2)), (0, (5,)), (3, (0, 4, 6))


def test_each_window_is_kept_once_and_only_if_wanted_and_of_the_same_owner(tmp_path: Path) -> None:
    write(tmp_path / "a", "windows-1.parquet", [FIRST])
    write(tmp_path / "a", "windows-unwanted.parquet", [THIRD, (9, (9,))])
    write(tmp_path / "b", "windows-2.parquet", [FIRST, SECOND])  # one of them is kept already
    write(tmp_path / "b", "windows-foreign.parquet", [SECOND], "score-fedcba9876543210/scores/model")
    write(tmp_path / "b", "windows-3.parquet", [THIRD])
    write(tmp_path / "b", ".windows-2.parquet.0123", [SECOND])  # never finished
    target = tmp_path / "target"
    target.mkdir()
    kept = keep_scores(CutShort(OWNER, [tmp_path / "a", tmp_path / "b"]), target, [FIRST, SECOND, THIRD])
    assert kept.windows == {FIRST, THIRD} and kept.samples == 5 and kept.tokens == 14
    assert sorted(path.name for path in target.iterdir()) == ["windows-1.parquet", "windows-3.parquet"]


@pytest.mark.parametrize("is_linked", [True, False])
def test_a_kept_file_takes_no_room_again_where_links_are_possible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_linked: bool
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "no links on this file system")

    write(tmp_path / "a", "windows-1.parquet", [FIRST])
    if not is_linked:
        monkeypatch.setattr(os, "link", refuse)
    earlier, kept = tmp_path / "a" / "windows-1.parquet", tmp_path / "target" / "windows-1.parquet"
    assert keep_scores(CutShort(OWNER, [earlier.parent]), kept.parent, [FIRST]).windows == {FIRST}
    assert kept.samefile(earlier) == is_linked
    content = earlier.read_bytes()
    earlier.unlink()
    assert kept.read_bytes() == content


def test_no_flipped_bit_and_no_cut_comes_through(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = write(tmp_path / "whole", "windows-1.parquet", [FIRST, SECOND, THIRD])
    content = (tmp_path / "whole" / "windows-1.parquet").read_bytes()
    chosen = random.Random(0)
    changed = []
    for _ in range(600):
        flipped = bytearray(content)
        flipped[chosen.randrange(len(content))] ^= 1 << chosen.randrange(8)
        changed.append(bytes(flipped))
    changed += [content[: chosen.randrange(len(content))] for _ in range(50)]
    refused = 0
    for number, damaged in enumerate(changed):
        folder, target = tmp_path / f"{number}", tmp_path / f"{number}-target"
        folder.mkdir()
        target.mkdir()
        (folder / "windows-1.parquet").write_bytes(damaged)
        kept = keep_scores(CutShort(OWNER, [folder]), target, [FIRST, SECOND, THIRD])
        refused += not kept.windows
        if kept.windows:  # what was hit says nothing about the scores
            copied = pq.read_table(target / "windows-1.parquet")
            assert copied.select(written.column_names).equals(written), number
    assert refused > 300
    assert "is left from an attempt that was cut short, but cannot be read" in capsys.readouterr().out
