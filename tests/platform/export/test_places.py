"""An artifact on S3 that is damaged is named by its place there."""

from pathlib import Path

import pytest

from behaviorlm.errors import DataError
from behaviorlm.predictor.behavior_model import BehaviorModel
from behaviorlm_ray import storage
from behaviorlm_ray.storage.locations import S3Location
from tests.behaviorlm.predictor.small_artifacts import write_artifact


def test_errors_name_the_place_and_not_its_copy(s3_root: S3Location, tmp_path: Path) -> None:
    write_artifact(tmp_path / "one", tmp_path, "counts")
    place = s3_root / "served"
    for path in (tmp_path / "one").iterdir():
        storage.write_replacing(place / path.name, path.read_bytes())
    assert BehaviorModel.load(str(place)).predict().answers
    storage.write_replacing(place / "counts.arrow", b"")
    with pytest.raises(DataError) as damaged:
        BehaviorModel.load(f"{place}/")
    assert str(damaged.value).startswith(f"{place} is damaged: counts.arrow")
