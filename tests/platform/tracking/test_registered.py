"""The registered predictor: opened by MLflow it answers as `BehaviorModel` does, and nothing of it is a pickle."""

import io
import os
import pickle
import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from behaviorlm.predictor.behavior_model import BehaviorModel
from behaviorlm.predictor.requests import Request
from behaviorlm_ray.pipeline.run import Run
from behaviorlm_ray.pipeline.tracking_settings import TrackingSettings
from behaviorlm_ray.tracking.registered import CODE
from behaviorlm_ray.tracking.registering import tell_results
from behaviorlm_ray.tracking.tracking import tracked
from tests.platform.small_runs import log_rows
from tests.platform.tracking.tracked_runs import client_of, copied, record_of, tell

ROOT = Path(__file__).resolve().parents[3]
NAME = "shop"


@pytest.fixture(scope="module")
def registered(finished: Run, empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose predictor is in the registry. Do not change it."""
    folder = tmp_path_factory.mktemp("registered")
    (folder / "mlflow.db").write_bytes(empty_database.read_bytes())
    run = copied(finished, folder, mlflow=f"sqlite:///{folder / 'mlflow.db'}", registered_model=NAME)
    assert len(tell(run).lines) == 1
    return run


@pytest.fixture
def folder(registered: Run) -> Iterator[Path]:
    """What MLflow keeps of it, downloaded."""
    import mlflow

    mlflow.set_tracking_uri(registered.settings.tracking.mlflow)
    try:
        yield Path(mlflow.artifacts.download_artifacts(f"models:/{NAME}/1"))
    finally:
        mlflow.set_tracking_uri(None)


def rows() -> list[dict[str, Any]]:
    """Histories of every kind: long, short, none, without context or moment."""
    events: dict[str, list[dict[str, str]]] = {}
    for event in log_rows(5, users=12):
        events.setdefault(event.pop("user"), []).append(event)
    found: list[dict[str, Any]] = []
    for number, history in enumerate(events.values()):
        asked: dict[str, Any] = {"history": history[: number * 2]}
        if number % 3:
            asked |= {"context": {"room": history[-1]["room"]}, "at": "2024-06-01T10:00:00Z"}
        if number % 4 == 1:
            asked["earlier_events"] = number
        found.append(asked)
    return found


def pickles(folder: Path) -> list[str]:
    """Files that are pickles by their name or by what is in them, in archives too."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        contents = [path.read_bytes()]
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                contents += [archive.read(name) for name in archive.namelist()]
        if path.suffix in (".pkl", ".pickle", ".pt", ".bin") or any(map(_is_pickle, contents)):
            found.append(path.name)
    return found


def _is_pickle(content: bytes) -> bool:
    try:
        operations = [name.name for name, _, _ in pickletools.genops(io.BytesIO(content))]
    except Exception:
        return False
    return operations[-1] == "STOP" and len(operations) > 1


@pytest.mark.parametrize("form", ["records", "frame"])
def test_it_answers_as_the_predictor_does(form: str, folder: Path) -> None:
    import mlflow

    asked = rows()
    opened = mlflow.pyfunc.load_model(str(folder), model_config={"device": "cpu"})
    given = pd.DataFrame(asked) if form == "frame" else asked
    model = BehaviorModel.load(folder / "artifacts" / "predictor", device="cpu")
    requests = [Request(**row) for row in asked]
    half = float(np.median([one.answers[0].probability for one in model.predict_many(requests)]))
    answers = opened.predict(given, params={"k": 3, "min_probability": half}).to_dict("records")
    expected = model.predict_many(requests, k=3, min_probability=half)
    assert len(answers) == len(expected) == 12
    for answer, right in zip(answers, expected, strict=True):
        assert answer["behavior"] == right.behavior and answer["abstains"] == right.abstains
        assert answer["warnings"] == right.warnings
        assert [each["behavior"] for each in answer["answers"]] == [each.behavior for each in right.answers]
        for name in ("id", "probability", "score", "group"):
            assert [each[name] for each in answer["answers"]] == [
                getattr(each, name) for each in right.answers
            ]
        assert answer["probability"] == right.answers[0].probability
    assert len({answer["behavior"] for answer in answers}) > 1 and any(row["abstains"] for row in answers)


def test_its_example_fits_its_signature_and_holds_nothing_of_the_log(folder: Path) -> None:
    import mlflow

    opened = mlflow.pyfunc.load_model(str(folder), model_config={"device": "cpu"})
    [example] = opened.input_example
    assert {event["room"] for event in example["history"]} == {"somewhere"}
    assert len(opened.predict([example])) == 1
    with pytest.raises(mlflow.exceptions.MlflowException, match="history"):
        opened.predict([{"histories": []}])
    with pytest.raises(mlflow.exceptions.MlflowException, match="brand"):
        opened.predict([{"history": [{**example["history"][0], "brand": 1}]}])


def test_the_page_says_what_works(registered: Run, capsys: pytest.CaptureFixture[str]) -> None:
    import mlflow

    page = (ROOT / "docs" / "tracking.md").read_text(encoding="utf-8")
    [written] = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    TrackingSettings.model_validate(yaml.safe_load(written)["tracking"])
    [block] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    mlflow.set_tracking_uri(registered.settings.tracking.mlflow)
    try:
        names: dict[str, Any] = {}
        exec(block, names)
    finally:
        mlflow.set_tracking_uri(None)
    assert len(names["answers"]["answers"][0]) == 3 and names["answers"]["warnings"][0] == []
    assert names["answers"]["behavior"][0] in capsys.readouterr().out


def test_nothing_of_it_is_a_pickle(folder: Path, tmp_path: Path) -> None:
    assert pickles(folder) == []
    kept = {path.name for path in folder.iterdir()}
    assert {"MLmodel", CODE.name, "requirements.txt", "input_example.json"} <= kept
    assert (folder / CODE.name).read_text() == CODE.read_text()
    (tmp_path / "planted").write_bytes(pickle.dumps({"a": 1}))
    with zipfile.ZipFile(tmp_path / "planted.zip", "w") as archive:
        archive.writestr("inside", pickle.dumps([1, 2]))
    (tmp_path / "text.json").write_text("{}")
    assert pickles(tmp_path) == ["planted", "planted.zip"]


def test_it_is_of_its_run_and_registered_once(registered: Run) -> None:
    import mlflow

    client, run_id = client_of(registered), record_of(registered).run_id
    [version] = client.search_model_versions(f"name = '{NAME}'")
    assert version.run_id == run_id and version.status == "READY"
    model = client.get_logged_model(version.source.rpartition("/")[2])
    assert model.experiment_id == client.get_run(run_id).info.experiment_id
    assert [output.model_id for output in client.get_run(run_id).outputs.model_outputs] == [model.model_id]
    assert len(tell(registered).lines) == 1
    assert len(client.search_model_versions(f"name = '{NAME}'")) == 1
    assert not mlflow.is_tracking_uri_set() and "MLFLOW_TRACKING_URI" not in os.environ


def test_an_export_that_is_refused_fails_nothing(finished: Run, database: str, tmp_path: Path) -> None:
    run = copied(finished, tmp_path, mlflow=database, registered_model=NAME)
    for scores in (tmp_path / "runs" / "stages").glob("predict_*/attempts/*/scores/*"):
        scores.unlink()  # what an export is held against
    with tracked(run) as tracking:
        tell_results(run, tracking)
    link, warning = sorted(tracking.lines)
    assert link.startswith("tracked: ") and warning.startswith("warning: tracking: no model was registered: ")
    assert client_of(run).get_run(record_of(run).run_id).info.status == "FINISHED"
    assert client_of(run).search_registered_models() == []
