"""`behaviorlm run` tracks what it runs, and says where; nothing of that changes what it returns."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import ray
import yaml

from behaviorlm_ray.cluster import connection
from behaviorlm_ray.commands.run import main
from behaviorlm_ray.pipeline.run import Run
from tests.platform.small_runs import log_rows, write_log
from tests.platform.tracking.tracked_runs import client_of, copied, record_of, told


@contextmanager
def nowhere(*, allow_unauthenticated: bool = False) -> Iterator[None]:
    """No Ray: every stage is there already."""
    yield


@pytest.mark.parametrize("is_there", [True, False])
def test_a_run_is_tracked_or_says_why_not(
    is_there: bool,
    finished: Run,
    database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(connection, "connected", nowhere)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 64.0, "memory": 2.0**40})
    address = database if is_there else f"sqlite:///{tmp_path / 'no' / 'folder' / 'mlflow.db'}"
    if not is_there:
        (tmp_path / "no").write_text("")
    run = copied(finished, tmp_path, mlflow=address, registered_model="shop")
    log = write_log(Path(run.settings.events.paths[0]), log_rows(21, users=20))
    try:
        config = tmp_path / "config.yaml"
        config.write_text(yaml.safe_dump(run.settings.model_dump(mode="json")), encoding="utf-8")
        assert main(["--config", str(config), "--plain"], prog="behaviorlm run") == 0
    finally:
        log.unlink()
    printed = capsys.readouterr().out.splitlines()
    assert any(line.startswith("wrote the report to ") for line in printed)
    if is_there:
        assert printed[-1] == f"tracked: run {record_of(run).run_id} in {database}"
        assert told(run).status == "FINISHED"
        assert [one.version for one in client_of(run).search_model_versions("name = 'shop'")] == [1]
    else:
        assert printed[-1].startswith(f"warning: tracking: not all was told to {address}: ")
