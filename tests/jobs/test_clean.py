"""The command: it lists, asks on a terminal, goes ahead with --yes, and only lists where nobody can answer."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from behaviorlm_ray.stages.run_record import RunRecord
from jobs import clean as clean_job
from tests.platform.upkeep.stored_stages import below_stages, finished_stage, folder_of


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A root with a stage that a run reaches, one that none does, whose name this is, and no copies."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "temporary").mkdir()
    RunRecord(tmp_path / "runs" / "demo").asks_for(
        folder_of(finished_stage(tmp_path / "runs", "prepare", "wanted"))
    )
    return folder_of(finished_stage(tmp_path / "runs", "prepare", "other"))


def test_without_a_terminal_it_lists_and_says_so(
    tmp_path: Path, other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert clean_job.main(["--root", str(tmp_path / "runs")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == ["what", "where", "size", "why"]
    assert printed[1].split()[:2] == ["stage", other]
    assert "no run, search or study reaches it; finished" in printed[1]
    assert printed[2].split()[0] == "total"
    assert "no terminal to ask on" in printed[-1]
    assert other in below_stages(tmp_path / "runs")


def test_yes_removes_without_asking_and_a_second_time_there_is_nothing(
    tmp_path: Path, other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert clean_job.main(["--root", str(tmp_path / "runs"), "--yes"]) == 0
    assert f"stage {other}: removed" in capsys.readouterr().out
    assert other not in below_stages(tmp_path / "runs") and len(below_stages(tmp_path / "runs")) == 1
    assert clean_job.main(["--root", str(tmp_path / "runs"), "--yes"]) == 0
    assert capsys.readouterr().out == "nothing to remove\n"


def test_each_kind_is_chosen_on_its_own(tmp_path: Path, other: str) -> None:
    assert clean_job.main(["--root", str(tmp_path / "runs"), "--attempts", "--copies", "--yes"]) == 0
    assert other in below_stages(tmp_path / "runs")
    assert (
        clean_job.main(["--root", str(tmp_path / "runs"), "--stages", "--older-than-days", "1", "--yes"]) == 0
    )
    assert other in below_stages(tmp_path / "runs")
    assert clean_job.main(["--root", str(tmp_path / "runs"), "--stages", "--yes"]) == 0
    assert other not in below_stages(tmp_path / "runs")


def test_a_run_of_which_nothing_is_known_makes_it_refuse_and_say_which(
    tmp_path: Path, other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs" / "old").mkdir()
    (tmp_path / "runs" / "old" / "results.json").write_text("{}")
    assert clean_job.main(["--root", str(tmp_path / "runs"), "--yes"]) == 1
    assert "the run old finished, and nothing says with which stages" in capsys.readouterr().out
    assert other in below_stages(tmp_path / "runs")


@pytest.mark.parametrize(("answer", "is_removed"), [("y", True), ("", False), ("no", False)])
def test_on_a_terminal_it_asks(tmp_path: Path, other: str, answer: str, is_removed: bool) -> None:
    leader, terminal = pty.openpty()
    command = [sys.executable, "-m", "jobs.clean", "--root", str(tmp_path / "runs")]
    with subprocess.Popen(command, stdin=terminal, stdout=subprocess.PIPE, text=True) as process:
        os.write(leader, f"{answer}\n".encode())
        printed, _ = process.communicate(timeout=120)
    os.close(leader)
    os.close(terminal)
    assert process.returncode == 0 and "remove all of this? [y/N]" in printed
    assert (other not in below_stages(tmp_path / "runs")) == is_removed
    assert is_removed or "nothing was removed" in printed


def test_a_root_of_a_later_format_is_refused(
    tmp_path: Path, other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs" / "behaviorlm.json").write_text('{"format": 2}')
    assert clean_job.main(["--root", str(tmp_path / "runs"), "--yes"]) == 1
    assert "format 2" in capsys.readouterr().err and other in below_stages(tmp_path / "runs")
