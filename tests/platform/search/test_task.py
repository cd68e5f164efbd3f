"""One task of a search: what it waits for, and what of an error is trouble with storage."""

from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import RayTaskError

from behaviorlm.config import load_settings
from behaviorlm.errors import ConfigError, DataError, StorageError
from behaviorlm.files import patient_reads
from behaviorlm_ray.search.decisions import Task
from behaviorlm_ray.search.settings import SearchSettings, base_run
from behaviorlm_ray.search.trial import open_patiently, reason, storage_error
from behaviorlm_ray.storage import S3Location
from tests.platform.s3_faults import FaultyProxy
from tests.platform.small_runs import log_rows, run_data, write_log
from tests.platform.stages.simulation import VirtualClock

TASK = Task(number=0, trial=0, rung=0, parameters={"selection.balance": 0.5})


@pytest.fixture
def run_on_s3(s3_root: S3Location, tmp_path: Path, small_base: Path) -> dict[str, Any]:
    data: dict[str, Any] = run_data(tmp_path, small_base, write_log(tmp_path / "log.csv", log_rows(1)))
    data["storage"] = {"root": str(s3_root)}
    search = {"name": "grid", "run": data, "space": {"selection.balance": [0.5]}}
    return base_run(load_settings(SearchSettings, data=search))


def test_a_task_waits_for_storage_that_fails_for_a_while(
    run_on_s3: dict[str, Any],
    proxy: FaultyProxy,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # what is waited for is told every ten seconds at most, by whatever clock an earlier test had
    monkeypatch.setattr(patient_reads, "_last_announced", float("-inf"))
    clock = VirtualClock()
    begun = clock.time
    proxy.plan("AccessDenied", 3, status=403)
    trial = open_patiently({"run": run_on_s3, "search": "mine"}, TASK, clock)
    assert trial.run.settings.selection.balance == 0.5
    assert proxy.happened == ["AccessDenied"] * 3
    assert 0 < clock.time - begun < run_on_s3["storage"]["patience_seconds"]
    assert "permission denied" in capsys.readouterr().out


def test_when_its_patience_is_over_the_error_is_that_of_storage(
    run_on_s3: dict[str, Any], proxy: FaultyProxy
) -> None:
    run_on_s3["storage"]["patience_seconds"] = 0.0
    proxy.plan("AccessDenied", 9, status=403)
    with pytest.raises(ConfigError) as caught:
        open_patiently({"run": run_on_s3, "search": "mine"}, TASK)
    assert "permission denied" in str(storage_error(caught.value))
    assert len(proxy.happened) == 1


def test_what_is_not_storage_is_not_waited_for(run_on_s3: dict[str, Any]) -> None:
    Path(run_on_s3["events"]["paths"][0]).unlink()
    with pytest.raises(ConfigError, match="matches no file") as caught:
        open_patiently({"run": run_on_s3, "search": "mine"}, TASK)
    assert storage_error(caught.value) is None


def test_trouble_with_storage_is_told_from_a_trials_own_errors() -> None:
    try:
        raise ConfigError("no bucket") from StorageError("does not answer")
    except ConfigError as error:
        assert str(storage_error(error)) == "does not answer"
    assert storage_error(ConfigError("no such key")) is None
    assert storage_error(DataError("empty")) is None
    assert storage_error(RuntimeError("boom")) is None


def test_an_error_that_ray_handed_on_and_that_names_it_as_its_cause_is_followed_to_its_end() -> None:
    told = DataError("the log is empty")
    told.__cause__ = RayTaskError("trainable", "Traceback …", told)  # as a stage raises it
    assert storage_error(told) is None and reason(told) == "the log is empty"
