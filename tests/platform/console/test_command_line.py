"""The command line of all jobs: overrides, help for every key, all errors at once, exit statuses."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import Field

from behaviorlm.config import Settings
from behaviorlm.errors import BehaviorLMError, ClusterError, ConfigError, DataError, ModelError, StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.console.command_line import run_job
from behaviorlm_ray.storage import S3Location
from tests.platform.s3_faults import FaultyProxy


class TuningSettings(Settings):
    learning_rate: float = Field(default=0.001, gt=0, description="Step size of the optimizer.")
    steps: int = Field(default=10, description="Optimizer steps.")


class SourceSettings(Settings):
    name: str = Field(description="What the source is called.")
    weight: float = Field(default=1.0, description="Weight of its loss.")


class JobSettings(Settings):
    log: str = Field(description="The behavior log, which is " + "very " * 40 + "long.")
    tuning: TuningSettings = Field(default=TuningSettings(), description="How to tune.")
    sources: list[SourceSettings] = Field(default_factory=list, description="Conversations.")
    note: str | None = Field(default=None, description="Anything, even 100 % of it.")


class Calls:
    """Records what a job was asked to do."""

    def __init__(self) -> None:
        self.ran: list[JobSettings] = []
        self.planned: list[JobSettings] = []

    def job(self, *arguments: str) -> int:
        return run_job(JobSettings, self.ran.append, arguments, "Does a thing.", plan=self.planned.append)


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "job.yaml"
    path.write_text(
        "log: events.csv\ntuning: {steps: 3}\nsources:\n- {name: talk}\n- {name: more, weight: 2}\n"
    )
    return str(path)


def test_runs_with_the_settings_of_the_file(calls: Calls, config: str) -> None:
    assert calls.job("--config", config) == 0
    assert [settings.log for settings in calls.ran] == ["events.csv"]
    assert calls.ran[0].tuning == TuningSettings(steps=3)
    assert not calls.planned


def test_a_printed_configuration_runs_again_as_the_same(
    calls: Calls, config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["--config", config, "--log=%d: *.csv", "--sources.1.weight=3"]
    assert calls.job(*typed, "--print-config") == 0
    printed = capsys.readouterr().out
    assert not calls.ran and not calls.planned
    for line in (
        "log: '%d: *.csv'",
        f"steps: 3  # {config}:2",
        "weight: 1.0  # default",
        "weight: 3.0  # command",
    ):
        assert line in re.sub(" +#", "  #", printed)
    (tmp_path / "printed.yaml").write_text(printed, encoding="utf-8")
    assert calls.job(*typed) == calls.job("--config", str(tmp_path / "printed.yaml")) == 0
    assert calls.ran[0] == calls.ran[1]


def test_what_is_not_valid_is_not_printed(
    calls: Calls, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert calls.job("--config", config, "--print-config", "--tuning.steps=many") == 2
    assert capsys.readouterr().out == ""


def test_the_schema_is_printed_without_a_configuration(
    calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    assert calls.job("--print-schema") == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["properties"]["log"]["type"] == "string" and schema["required"] == ["log"]


def test_a_second_file_is_refused_with_both(
    calls: Calls, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert calls.job("--config", config, "--config=other.yaml") == 2
    assert f"--config stands 2 times, for {config} and other.yaml" in capsys.readouterr().err
    assert not calls.ran


def test_dry_run_plans_and_does_not_run(calls: Calls, config: str) -> None:
    assert calls.job("--dry-run", f"--config={config}") == 0
    assert (len(calls.ran), len(calls.planned)) == (0, 1)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--tuning.learning_rate=1e-4", "--sources.1.weight=0.5", "--note=a=b c"),
        ("--tuning.learning_rate", "1.0e-4", "--sources.1.weight", "0.5", "--note", "a=b c"),
    ],
)
def test_overrides_win_over_the_file(calls: Calls, config: str, arguments: tuple[str, ...]) -> None:
    assert calls.job(*arguments, "--config", config) == 0
    [settings] = calls.ran
    assert settings.tuning == TuningSettings(learning_rate=1e-4, steps=3)
    assert [source.weight for source in settings.sources] == [1.0, 0.5]
    assert settings.note == "a=b c"


def test_negative_and_structured_values_are_read_as_yaml(calls: Calls, config: str) -> None:
    assert calls.job("--config", config, "--tuning.steps", "-1", "--sources=[{name: x}]", "--note=null") == 0
    [settings] = calls.ran
    assert settings.tuning.steps == -1
    assert settings.sources == [SourceSettings(name="x")]
    assert settings.note is None


def test_keys_can_be_given_without_any_file(calls: Calls) -> None:
    assert calls.job("--log=x.csv") == 0
    assert calls.ran == [JobSettings(log="x.csv")]


def test_all_wrong_keys_are_told_at_once_and_nothing_runs(
    calls: Calls, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--tuning.learning_rat=1", "--tuning.learning_rate=-1", "--tuning.steps=many", "--log=null"]
    assert calls.job("--config", config, *arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    for key in ("tuning.learning_rat:", "tuning.learning_rate:", "tuning.steps:", "log:", "command line"):
        assert key in printed.err
    assert "did you mean 'learning_rate'?" in printed.err
    assert "'many'" in printed.err
    assert not calls.ran


def test_arguments_that_are_no_keys_are_all_told(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    assert calls.job("events.csv", "--tuning.steps", "--log") == 2
    errors = capsys.readouterr().err
    assert "'events.csv' is not an option" in errors and "--config FILE" in errors
    assert "--tuning.steps needs a value" in errors
    assert "--log needs a value" in errors


def test_a_missing_file_is_named(calls: Calls, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert calls.job("--config", str(tmp_path / "absent.yaml")) == 2
    assert f"there is no file {tmp_path / 'absent.yaml'}" in capsys.readouterr().err


def test_a_config_on_s3_is_read_as_a_local_one_with_its_paths_as_they_are(
    calls: Calls, s3_root: S3Location, capsys: pytest.CaptureFixture[str]
) -> None:
    place = s3_root / "runs" / "small" / "config.yaml"
    storage.write_replacing(place, "log: data/événements.csv\ntuning: {steps: 3}\n".encode())
    assert calls.job("--config", str(place), "--tuning.learning_rate=0.5") == 0
    assert calls.ran == [
        JobSettings(log="data/événements.csv", tuning=TuningSettings(learning_rate=0.5, steps=3))
    ]
    assert calls.job("--config", str(place), "--tuning.step=1") == 2
    assert "error: command line: 1 problem(s)\n  --tuning.step: unknown key" in capsys.readouterr().err
    storage.write_replacing(place, b"log: a\ntuning: {step: 3}\n")
    assert calls.job("--config", str(place)) == 2
    assert f"{place}: 1 problem(s)\n  tuning.step: unknown key" in capsys.readouterr().err
    storage.write_replacing(place, b"log: [")
    assert calls.job("--config", str(place)) == 2
    assert f"{place} is not readable YAML" in capsys.readouterr().err


def test_a_config_on_s3_that_is_missing_or_refused_is_told(
    calls: Calls, s3_root: S3Location, proxy: FaultyProxy, capsys: pytest.CaptureFixture[str]
) -> None:
    place = s3_root / "config.yaml"
    proxy.plan("AccessDenied", 10, status=403)
    expected = [
        (str(place), 1, f"--config: cannot read {place}: permission denied (AccessDenied)"),
        (f"s3://{s3_root.bucket}", 2, f"--config: s3://{s3_root.bucket} names a bucket, not a file in it"),
        ("s3://no-such-bucket-here/a.yaml", 1, "there is no bucket 'no-such-bucket-here'"),
        (str(place), 2, f"--config: there is no object {place}"),
    ]
    for config, status, message in expected:
        assert calls.job("--config", config) == status
        assert message in capsys.readouterr().err
        proxy.planned.clear()
    assert not calls.ran


def test_help_documents_every_key_with_type_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        Calls().job("--help")
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert "Does a thing." in printed
    assert "log  (str; required)" in printed
    assert "tuning.learning_rate  (float; default 0.001)" in printed
    assert "Step size of the optimizer." in printed
    assert "sources[].weight" in printed or "sources.[].weight" in printed
    assert "even 100 % of it" in printed
    assert max(len(line) for line in printed.splitlines()) <= 110


@pytest.mark.parametrize(
    ("error", "status"),
    [(ConfigError, 2), (DataError, 2), (ModelError, 1), (StorageError, 1), (ClusterError, 1)],
)
def test_errors_of_this_project_are_messages_with_a_status(
    error: type[BehaviorLMError], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(settings: JobSettings) -> None:
        problem = error("the thing in row 7 is bad")
        problem.add_note("its files are kept in /there")
        raise problem

    assert run_job(JobSettings, fail, ["--log=x y"], plan=fail, prog="behaviorlm thing") == status
    assert run_job(JobSettings, fail, ["--log=x y", "--dry-run"], plan=fail) == status
    told = "error: the thing in row 7 is bad\nits files are kept in /there\n"
    again = "once that is mended, the same command goes on:\n  behaviorlm thing '--log=x y'\n"
    last = f"failed with exit status {status}\n"
    assert capsys.readouterr().err == told + again + last + told + last


def test_an_interrupt_says_how_to_continue(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(settings: JobSettings) -> None:
        raise KeyboardInterrupt

    assert run_job(JobSettings, interrupted, ["--log=x"], plan=interrupted) == 130
    assert "run the same command again to continue" in capsys.readouterr().err


def test_termination_is_an_interrupt_that_is_not_cut_off_by_a_second_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cleaned = []

    def terminated(settings: JobSettings) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            cleaned.append(True)

    before = signal.getsignal(signal.SIGTERM)
    assert run_job(JobSettings, terminated, ["--log=x"], plan=terminated) == 130
    assert cleaned
    assert signal.getsignal(signal.SIGTERM) is before
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "interrupted; run the same command again to continue:"
    assert len(told) == 2 and told[1].endswith(" --log=x")


def test_an_error_that_is_not_ours_keeps_its_traceback() -> None:
    def broken(settings: JobSettings) -> None:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        run_job(JobSettings, broken, ["--log=x"], plan=broken)


def test_progress_is_seen_at_once_when_the_output_is_a_pipe() -> None:
    script = (
        "from behaviorlm.config import Settings\n"
        "from behaviorlm_ray.console.command_line import run_job\n"
        "def main(settings):\n"
        "    print('working')\n"
        "    input()\n"
        "run_job(Settings, main, [], plan=main)\n"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        process.communicate("\n")
