"""The command `behaviorlm`: what it lists, what it hands on, and what it says to a name that it does not know."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from behaviorlm import __version__
from behaviorlm_ray.commands.__main__ import PROJECT, commands, main, overview

ROOT = Path(__file__).resolve().parents[3]


def typed(
    *arguments: str, place: Path = ROOT, paths: tuple[Path, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """`python -m behaviorlm_ray.commands …` in a process of its own."""
    searched = os.pathsep.join(map(str, [ROOT, ROOT / "platform", *paths]))
    return subprocess.run(
        [sys.executable, "-m", "behaviorlm_ray.commands", *arguments],
        cwd=place,
        env={**os.environ, "PYTHONPATH": searched},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_overview_has_a_line_for_each_command_whose_module_it_does_not_import(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert PROJECT == ROOT / "pyproject.toml"
    told = typed("--help").stdout
    for name, place in commands(PROJECT).items():
        [line] = [line for line in told.splitlines() if line.startswith(f"  {name} ")]
        assert len(line.split()) > 4 and line.endswith(".") and len(line) <= 120, line
        assert place.startswith(("behaviorlm_ray.commands.", "behaviorlm_lab.commands."))
    script = (
        "import sys\nfrom behaviorlm_ray.commands.__main__ import main\nmain(['--help'])\n"
        "print([name for name in ('pydantic', 'behaviorlm_ray.commands.run', 'numpy') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}"}
    printed = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert "behaviorlm_ray.commands.run" not in printed.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("evalute", "there is no command 'evalute': did you mean 'evaluate'?"),
        ("a-tune", "did you mean 'a_tune'?"),
        ("", "COMMAND …"),
        ("qqqq", "there is no command 'qqqq'; "),
    ],
)
def test_an_unknown_command_names_the_nearest(
    name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name] if name else []) == 2
    printed = capsys.readouterr()
    assert said in printed.err and not printed.out


@pytest.mark.parametrize("name", commands(PROJECT))
def test_usage_says_what_was_typed(name: str) -> None:
    assert typed(name, "--help").stdout.startswith(f"usage: python -m behaviorlm_ray.commands {name} ")
    job = subprocess.run(
        [sys.executable, "-m", f"jobs.{name}", "--help"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert job.stdout.startswith(f"usage: python -m jobs.{name} ")


def test_arguments_and_the_exit_status_are_handed_on(tmp_path: Path) -> None:
    ended = typed("run", "--config", "absent.yaml", place=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "error: --config: there is no file absent.yaml" in ended.stderr
    ended = typed("status", "--root", str(tmp_path), place=tmp_path)
    assert ended.returncode == 0 and str(tmp_path) in ended.stdout


def test_a_command_of_another_package_is_found_by_its_entry_point(tmp_path: Path) -> None:
    (tmp_path / "brought.py").write_text(
        '"""Greet.\n\nMore."""\ndef main(arguments, prog):\n    print(prog, arguments)\n    return 7\n'
    )
    (tmp_path / "brought-1.dist-info").mkdir()
    (tmp_path / "brought-1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: brought\nVersion: 1\n"
    )
    (tmp_path / "brought-1.dist-info" / "entry_points.txt").write_text(
        "[behaviorlm.commands]\ngreet = brought:main\n"
    )
    assert "  greet     Greet.\n" in typed("--help", paths=(tmp_path,)).stdout
    ended = typed("greet", "--loud", "you", paths=(tmp_path,))
    assert ended.returncode == 7
    assert ended.stdout == "python -m behaviorlm_ray.commands greet ['--loud', 'you']\n"


def test_jobs_run_where_nothing_is_installed(tmp_path: Path) -> None:
    """As in the working directory of a submitted job: no metadata of the package, only the code."""
    script = (
        "import importlib.metadata as metadata, runpy, sys\n"
        "def none(*_, **__):\n    raise metadata.PackageNotFoundError('behaviorlm')\n"
        "metadata.distribution = metadata.version = none\n"
        "metadata.entry_points = lambda **_: metadata.EntryPoints()\n"
        "sys.argv = ['run', '--help']\n"
        "runpy.run_module(sys.argv[0] and 'jobs.run', run_name='__main__')\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}"}
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0 and ended.stdout.startswith("usage: python -m jobs.run "), ended.stderr


def test_a_version_is_told_and_an_unreadable_module_does_not_hide_the_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"behaviorlm {__version__}\n"
    told = overview({"gone": "behaviorlm.nowhere:main", "run": "behaviorlm_ray.commands.run:main"}, "x")
    assert "(there is no module behaviorlm.nowhere)" in told and "Run the whole pipeline" in told
