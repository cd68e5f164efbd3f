"""An exported folder that somebody made to do harm: the code, files and places that it names."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from behaviorlm.errors import BehaviorLMError, DataError, ModelError
from behaviorlm.predictor.artifact import DESCRIPTION, read_artifact
from behaviorlm.predictor.behavior_model import BehaviorModel
from tests.behaviorlm.planted_code import plant_code


def changed(source: Path, folder: Path, change: dict[str, Any]) -> Path:
    shutil.copytree(source, folder)
    stored = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    for key, value in change.items():
        stored[key] = stored[key] | value if isinstance(value, dict) else value
    (folder / DESCRIPTION).write_text(json.dumps(stored), encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "base/../../secret"])
def test_files_outside_are_neither_read_nor_measured(
    folders: dict[str, Path], tmp_path: Path, name: str
) -> None:
    """Their size and hash, told as damage, would answer questions about files of who opens the folder."""
    (tmp_path / "secret").write_text("12345")
    listed = {"files": {name: {"bytes": 1, "sha256": "0" * 64}}}
    with pytest.raises(DataError, match=f"'{name}' would lie outside of it") as caught:
        read_artifact(changed(folders["counts"], tmp_path / "hostile", listed))
    assert "bytes instead of" not in str(caught.value)


def test_code_that_comes_with_it_is_not_run_though_it_says_that_it_may(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    folder = tmp_path / "hostile"
    shutil.copytree(folders["model"], folder)
    plant_code(folder / "base", marker, model_type="planted")
    stored = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    stored["weights"]["base"]["trust_remote_code"] = True
    stored["files"] = {}
    (folder / DESCRIPTION).write_text(json.dumps(stored), encoding="utf-8")
    with pytest.raises(ModelError, match="trust_remote_code=True"):
        BehaviorModel.load(folder)
    stored["weights"]["base"]["trust_remote_code"] = False
    (folder / DESCRIPTION).write_text(json.dumps(stored), encoding="utf-8")
    with pytest.raises(BehaviorLMError):
        BehaviorModel.load(folder)
    assert not marker.exists()
