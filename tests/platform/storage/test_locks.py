"""Locks of local folders, which go with their folder."""

import sys
import threading
from pathlib import Path

import pytest

from behaviorlm_ray.storage import local

TIMES = 300


def test_a_lock_is_had_while_somebody_removes_its_folder_again_and_again(tmp_path: Path) -> None:
    folder = tmp_path / "stage"

    def remove() -> None:
        for _ in range(TIMES):
            local.remove_emptied(folder, "lease.json")

    remover, interval = threading.Thread(target=remove), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    remover.start()
    tried = had = 0
    try:
        while remover.is_alive():
            tried += 1
            with local.exclusive_lock(folder / "lease.json"):
                had += folder.is_dir()
    finally:
        sys.setswitchinterval(interval)
        remover.join()
    assert had == tried > 0


@pytest.mark.parametrize("folder", ["away", "away/stage", "file"])
def test_what_is_no_folder_is_an_error_and_not_waited_for(tmp_path: Path, folder: str) -> None:
    (tmp_path / "away").symlink_to(tmp_path / "not-mounted")
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError), local.exclusive_lock(tmp_path / folder / "lease.json"):
        pass
