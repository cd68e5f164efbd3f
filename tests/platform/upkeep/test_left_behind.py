"""What a run, its export and its predictions leave in files: no secret ever, and of a deleted user nothing at all."""

import shutil
from pathlib import Path

import pytest

from behaviorlm_ray.commands import clean
from behaviorlm_ray.export.exporting import ExportPlan, export
from tests.platform.export.finished_runs import finished_run
from tests.platform.found_in_files import files_with
from tests.platform.prediction.predicted_logs import predicted, settings
from tests.platform.small_runs import log_rows, write_log

USER = "planted-user-7f3a"
SECRETS = {
    name: f"planted-{number}-{'0123456789abcdef' * 2}"
    for number, name in enumerate(
        (
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "HF_TOKEN",
            "RAY_AUTH_TOKEN",
            "BEHAVIORLM_TOKEN",
            "MLFLOW_TRACKING_PASSWORD",
            "MLFLOW_TRACKING_TOKEN",
        )
    )
}


def left(place: Path, base: Path, rows: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """A run, its export and predictions of its log, in folders of these names below the place."""
    run = finished_run(place, base, monkeypatch, rows=rows)
    log = write_log(place / "asked.csv", rows)
    for folder in ("exported", "predicted"):
        shutil.rmtree(place / folder, ignore_errors=True)
    export(ExportPlan(str(run.output_folder), str(place / "exported")))
    predicted(settings(place / "exported", log, place / "predicted"))
    log.unlink()


@pytest.mark.slow
def test_a_user_who_is_deleted_as_the_guide_says_is_in_no_file_and_no_secret_ever_was(
    small_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    his = [row | {"user": USER} for row in log_rows(5, users=1, low=20)]
    others = log_rows(21, users=20)
    left(tmp_path, small_base, [*his, *others], monkeypatch)
    assert files_with(tmp_path, *SECRETS.values()) == []
    found = files_with(tmp_path, USER)
    assert any(name.startswith("runs/stages/prepare-") for name in found), found  # what the guide says of him
    assert any(name.startswith("predicted/") for name in found), found
    assert not [name for name in found if name.startswith(("exported/", "runs/small/"))]

    left(tmp_path, small_base, others, monkeypatch)
    assert files_with(tmp_path, USER)  # until the old stages go
    assert clean.main(["--root", str(tmp_path / "runs"), "--older-than-days", "0", "--yes"]) == 0
    assert files_with(tmp_path, USER) == []
    assert files_with(tmp_path, "user 3 é") != []  # the others are there, and would be found

    planted = tmp_path / "runs" / "small" / "config.yaml"
    planted.write_text(f"{planted.read_text()}# {SECRETS['HF_TOKEN']}\n")
    assert files_with(tmp_path, *SECRETS.values()) == ["runs/small/config.yaml"]
