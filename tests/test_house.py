"""Rules of the house that no tool checks: which way imports run, what must not exist, how long files are."""

import ast
import importlib.util
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
METHOD = ROOT / "behaviorlm"
PLATFORM = ROOT / "platform" / "behaviorlm_ray"
JOBS = ROOT / "jobs"

METHOD_NEVER_IMPORTS = {"ray", "deepspeed", "boto3", "botocore", "behaviorlm_ray", "behaviorlm_lab", "jobs"}
PLATFORM_NEVER_IMPORTS = {"behaviorlm_lab", "jobs"}


def python_files(*folders: Path) -> list[Path]:
    """All modules below the folders."""
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def imported_packages(path: Path) -> Iterator[tuple[str, int]]:
    """Top-level names a module imports, wherever in the module, with the line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0], node.lineno


@pytest.mark.parametrize(
    ("folder", "forbidden"), [(METHOD, METHOD_NEVER_IMPORTS), (PLATFORM, PLATFORM_NEVER_IMPORTS)]
)
def test_imports_run_one_way(folder: Path, forbidden: set[str]) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in python_files(folder)
        for name, line in imported_packages(path)
        if name in forbidden
    ]
    assert not wrong, wrong
    assert python_files(folder)


def test_nothing_imports_the_tests_or_benchmarks() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in python_files(METHOD, PLATFORM, JOBS)
        for name, line in imported_packages(path)
        if name in {"tests", "benchmarks", "pytest", "hypothesis"}
    ]
    assert not wrong, wrong


def test_platform_folder_does_not_shadow_the_standard_library() -> None:
    """With platform/__init__.py every Ray worker dies, for the working directory is on its path."""
    assert not (ROOT / "platform" / "__init__.py").exists()
    script = "import platform; print(platform.__file__); print(platform.python_version())"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    printed = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert Path(printed[0]).name == "platform.py"
    assert not Path(printed[0]).is_relative_to(ROOT / "platform")


def test_tests_have_no_packages() -> None:
    """pytest's importlib mode and the folder tests/platform do not go together with __init__.py."""
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_every_method_module_imports_without_ray_deepspeed_and_boto3() -> None:
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in python_files(METHOD)]
    modules = [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]
    script = f"""
import importlib, importlib.machinery, sys

find = importlib.machinery.PathFinder.find_spec

def find_present(name, path=None, target=None):
    return None if name.partition(".")[0] in {sorted(METHOD_NEVER_IMPORTS)!r} else find(name, path, target)

importlib.machinery.PathFinder.find_spec = staticmethod(find_present)
for module in {modules!r}:
    importlib.import_module(module)
for name in {sorted(METHOD_NEVER_IMPORTS)!r}:
    assert name not in sys.modules, name
print("imported", len({modules!r}))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split()[-1] == str(len(modules))


def test_both_packages_are_importable_here() -> None:
    assert importlib.util.find_spec("behaviorlm") is not None
    assert importlib.util.find_spec("behaviorlm_ray") is not None


def test_files_are_short() -> None:
    lengths = {
        path: len(path.read_text(encoding="utf-8").splitlines())
        for path in python_files(METHOD, PLATFORM, JOBS)
    }
    too_long = {str(path.relative_to(ROOT)): length for path, length in lengths.items() if length > 600}
    assert not too_long, too_long
    assert statistics.median(lengths.values()) < 200


def test_jobs_are_small() -> None:
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in python_files(JOBS)}
    assert all(length <= 80 for length in lengths.values()), lengths


def test_test_files_are_not_endless() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in python_files(ROOT / "tests")
    }
    assert not {path: length for path, length in lengths.items() if length > 600}
