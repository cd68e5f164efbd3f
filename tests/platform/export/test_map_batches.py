"""A predictor as the function of a Ray dataset."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from behaviorlm.predictor.behavior_model import BehaviorModel
from behaviorlm.predictor.requests import Request
from tests.behaviorlm.predictor.small_artifacts import history, write_artifact


def test_a_dataset_is_answered_as_its_rows_are(ray_cluster: None, small_base: Path, tmp_path: Path) -> None:
    import ray

    write_artifact(tmp_path / "fused", small_base, "fused")
    model = BehaviorModel.load(tmp_path / "fused", device="cpu")
    rows: list[dict[str, Any]] = [
        {"user": number, "history": history(number % 7), "at": "2024-03-03T10:00:00Z"} for number in range(20)
    ]
    dataset = ray.data.from_arrow(pa.Table.from_pylist(rows)).repartition(2)
    found = dataset.map_batches(model, batch_format="pyarrow", batch_size=6).take_all()
    expected = model.predict_many([Request(row["history"], None, row["at"]) for row in rows])
    by_user = {row["user"]: row for row in found}
    assert len(found) == len(by_user) == 20
    for row, one in zip(rows, expected, strict=True):
        answered = by_user[row["user"]]
        assert answered["behavior"] == one.behavior
        assert answered["probability"] == pytest.approx(one.answers[0].probability, abs=1e-6)
