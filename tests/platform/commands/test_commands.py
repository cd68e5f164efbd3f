"""The command `behaviorlm`: what it lists, what it hands on, and what it says to a name that it does not know."""

import os
import runpy
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from behaviorlm import __version__
from behaviorlm_ray.commands.__main__ import PROJECT, commands, main, overview

ROOT = Path(__file__).resolve().parents[3]


def typed(*arguments: str, place: Path) -> subprocess.CompletedProcess[str]:
    """`python -m behaviorlm_ray.commands …` in a process of its own."""
    searched = os.pathsep.join(map(str, [ROOT, ROOT / "platform"]))
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
    script = (
        "import runpy, sys\nsys.argv = ['', '--help']\n"
        "try:\n    runpy.run_module('behaviorlm_ray.commands', run_name='__main__', alter_sys=True)\n"
        "finally:\n    print([name for name in sys.modules if name.startswith('behaviorlm_ray.commands.')])"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}"}
    told = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    ).stdout
    for name, place in commands(PROJECT).items():
        [line] = [line for line in told.splitlines() if line.startswith(f"  {name} ")]
        assert len(line.split()) > 4 and line.endswith(".") and len(line) <= 120, line
        assert place.startswith(("behaviorlm_ray.commands.", "behaviorlm_lab.commands."))
    assert told.splitlines()[-1] == "[]"
    order = [told.index(f"  {name} ") for name in ("inspect", "run", "evaluate", "export", "serve", "study")]
    assert order == sorted(order)


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
def test_usage_says_what_was_typed(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, arguments in (("behaviorlm_ray.commands", [name]), (f"jobs.{name}", [])):
        monkeypatch.setattr(sys, "argv", ["", *arguments, "--help"])
        for loaded in (module, f"{module}.__main__"):
            monkeypatch.delitem(sys.modules, loaded, raising=False)  # as in a process of its own
        with pytest.raises(SystemExit) as ended:
            runpy.run_module(module, run_name="__main__", alter_sys=True)  # what `python -m` does
        assert not ended.value.code
        assert capsys.readouterr().out.startswith(f"usage: {' '.join(['python -m', module, *arguments])} ")


def test_arguments_and_the_exit_status_are_handed_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = typed("run", "--config", "absent.yaml", place=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "error: --config: there is no file absent.yaml" in ended.stderr
    assert main(["status", "--root", str(tmp_path)]) == 0
    assert str(tmp_path) in capsys.readouterr().out


def test_a_command_of_another_package_is_found_by_its_entry_point(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
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
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", ["/somewhere/behaviorlm"])
    assert main(["--help"]) == 0
    assert "  greet     Greet.\n" in capsys.readouterr().out
    assert main(["greet", "--loud", "you"]) == 7
    assert capsys.readouterr().out == "behaviorlm greet ['--loud', 'you']\n"


@pytest.mark.parametrize(("missing", "status"), [("rich.console", 2), ("behaviorlm.gone", None)])
def test_a_package_that_is_not_installed_is_told_and_a_module_of_ours_is_a_bug(
    missing: str, status: int | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "behaviorlm_ray.commands.inspect", ModuleType("inspect"))
    sys.modules["behaviorlm_ray.commands.inspect"].__dict__["main"] = lambda *_, **__: import_module(missing)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    if status is None:
        with pytest.raises(ModuleNotFoundError):
            main(["inspect", "log.csv"])
        return
    assert main(["inspect", "log.csv"]) == status
    assert "needs the Python package rich, which is not installed here" in capsys.readouterr().err


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
