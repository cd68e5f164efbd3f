"""A root says its format once; what a later version made is refused by name, what an earlier one made opens."""

import json
from pathlib import Path

import pytest

from behaviorlm.errors import StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.stages.root import FORMAT, open_root
from behaviorlm_ray.storage import Location
from behaviorlm_ray.upkeep.stage_states import stages_under


def test_the_first_to_write_leaves_the_marker_and_nobody_changes_it(root: Location) -> None:
    open_root(root, is_written=False)
    assert storage.list_files(root) == []
    open_root(root, is_written=True)
    assert storage.list_files(root) == ["behaviorlm.json"]
    written = storage.read_bytes(root / "behaviorlm.json")
    assert json.loads(written or b"")["format"] == FORMAT
    older = b'{"format": 0}'
    storage.write_replacing(root / "behaviorlm.json", older)
    open_root(root, is_written=True)
    assert storage.read_bytes(root / "behaviorlm.json") == older


@pytest.mark.parametrize("is_written", [False, True])
def test_a_later_format_is_refused_with_root_format_and_version(root: Location, is_written: bool) -> None:
    storage.write_replacing(root / "behaviorlm.json", b'{"format": 7, "version": "3.1.0"}')
    with pytest.raises(
        StorageError, match=r"format 7, made by behaviorlm 3\.1\.0; behaviorlm \d.*up to 1"
    ) as told:
        open_root(root, is_written=is_written)
    assert str(root) in str(told.value) and "Install version 3.1.0" in str(told.value)
    with pytest.raises(StorageError, match="format 7"):
        stages_under(str(root))


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"format": "new"}', b"\xff"])
def test_a_damaged_marker_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "behaviorlm.json").write_bytes(content)
    with pytest.raises(StorageError, match=r"behaviorlm\.json is damaged"):
        open_root(tmp_path, is_written=True)
