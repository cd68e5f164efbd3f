"""Rules of the house that no tool checks: which way imports run, what must not exist, how long files are."""

import ast
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from behaviorlm_ray.commands.__main__ import commands
from tests import house_rules

ROOT = Path(__file__).resolve().parents[1]
METHOD = ROOT / "behaviorlm"
PLATFORM = ROOT / "platform" / "behaviorlm_ray"
JOBS = ROOT / "jobs"

STARTED_ELSEWHERE = {"behaviorlm_ray.cluster.spot_notice", "behaviorlm_ray.tracking.opened_by_mlflow"}
"""Modules that other programs start: spot_notice on each EC2 node (cluster/aws.yaml), opened_by_mlflow by MLflow."""

SOUND = {
    "behaviorlm/__init__.py": "",
    "behaviorlm/errors.py": "",
    "behaviorlm/files/__init__.py": "",
    "behaviorlm/model/b.py": "from behaviorlm import errors, files\nx = 1",
    "platform/behaviorlm_ray/search/__init__.py": "b = 1",
    "platform/behaviorlm_lab/world/b.py": "from behaviorlm.model.b import x\nimport behaviorlm_ray.search",
    "jobs/a.py": "from behaviorlm_lab.world import b",
}
"""A tree that keeps every rule."""


def modules_nobody_needs(root: Path) -> set[str]:
    """Modules that nothing imports or starts, but for those that other programs start."""
    return house_rules.modules_without_importer(root, STARTED_ELSEWHERE)


def long_files(root: Path) -> set[str]:
    """Files above 400 lines."""
    return house_rules.files_longer_than(root, 400)


def long_functions(root: Path) -> set[str]:
    """Functions above 60 lines."""
    return house_rules.functions_longer_than(root, 60)


def many_parameters(root: Path) -> set[str]:
    """Functions with more than 8 parameters."""
    return house_rules.functions_with_more_parameters_than(root, 8)


def plant(root: Path, files: dict[str, str]) -> None:
    """Write files below `root`."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n", encoding="utf-8")


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


RULES: list[Callable[[Path], set[str]]] = [
    house_rules.imports_of_later_packages,
    house_rules.imports_of_later_rooms,
    house_rules.circles,
    modules_nobody_needs,
    long_files,
    long_functions,
    many_parameters,
]

PLANTED: list[tuple[Callable[[Path], set[str]], dict[str, str], str]] = [
    (
        house_rules.imports_of_later_packages,
        {"platform/behaviorlm_ray/search/a.py": "def f():\n    import behaviorlm_lab.world.b"},
        "behaviorlm_ray.search.a -> behaviorlm_lab.world.b",
    ),
    (
        house_rules.imports_of_later_packages,
        {"platform/behaviorlm_lab/world/b.py": "from jobs import a"},
        "behaviorlm_lab.world.b -> jobs.a",
    ),
    (
        house_rules.imports_of_later_rooms,
        {"behaviorlm/files/a.py": "def f():\n    from behaviorlm.model import b"},
        "behaviorlm.files.a -> behaviorlm.model.b",
    ),
    (
        house_rules.imports_of_later_rooms,
        {"platform/behaviorlm_ray/storage/a.py": "from behaviorlm_ray.search import b"},
        "behaviorlm_ray.storage.a -> behaviorlm_ray.search",
    ),
    (house_rules.imports_of_later_rooms, {"behaviorlm/attic/a.py": ""}, "behaviorlm.attic.a: no room"),
    (
        house_rules.circles,
        {
            "behaviorlm/model/a.py": "from behaviorlm.model.b import x",
            "behaviorlm/model/b.py": "def f():\n    from behaviorlm.model.c import y",
            "behaviorlm/model/c.py": "from behaviorlm.model import a",
        },
        "behaviorlm.model.a behaviorlm.model.b behaviorlm.model.c",
    ),
    (modules_nobody_needs, {"behaviorlm/model/alone.py": "import json"}, "behaviorlm.model.alone"),
    (long_files, {"behaviorlm/model/a.py": "x = 1\n" * 401}, "behaviorlm/model/a.py"),
    (
        long_functions,
        {"jobs/a.py": "class A:\n    def f(self):\n" + "        x = 1\n" * 60},
        "jobs/a.py: f",
    ),
    (
        many_parameters,
        {"jobs/a.py": "class A:\n    def f(self, a, b, c, d, e, /, f, g, *, h, i): ..."},
        "jobs/a.py: f",
    ),
]
"""A rule, files that break it, and what it says."""


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_its_rules(rule: Callable[[Path], set[str]]) -> None:
    assert rule(ROOT) == set()


@pytest.mark.parametrize(("rule", "files", "told"), PLANTED, ids=lambda value: getattr(value, "__name__", ""))
def test_a_planted_offender_is_found_and_a_sound_tree_is_not(
    rule: Callable[[Path], set[str]], files: dict[str, str], told: str, tmp_path: Path
) -> None:
    plant(tmp_path, SOUND)
    assert rule(tmp_path) == set()
    plant(tmp_path, files)
    assert rule(tmp_path) == {told}


def test_half_of_the_files_are_short(tmp_path: Path) -> None:
    assert house_rules.median_of_lengths(ROOT) <= 200
    plant(
        tmp_path,
        {f"behaviorlm/model/{name}.py": "x = 1\n" * 201 for name in "ab"} | {"jobs/c.py": "x = 1\n" * 9},
    )
    assert house_rules.median_of_lengths(tmp_path) > 200


def test_every_job_and_every_command_is_the_other() -> None:
    """`behaviorlm NAME` and `python -m jobs.NAME` are the same; nothing is offered in one way only."""
    declared = commands(ROOT / "pyproject.toml")
    assert {path.stem for path in JOBS.glob("*.py")} - {"__init__"} == declared.keys()
    for name, place in declared.items():
        module, _, function = place.partition(":")
        assert f"from {module} import {function}" in (JOBS / f"{name}.py").read_text(encoding="utf-8")


def test_nothing_imports_the_tests_or_benchmarks() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in python_files(METHOD, PLATFORM, JOBS)
        for name, line in imported_packages(path)
        if name in {"tests", "benchmarks", "pytest", "hypothesis"}
    ]
    assert not wrong, wrong


def test_tests_have_no_packages() -> None:
    """pytest's importlib mode and the folder tests/platform do not go together with __init__.py."""
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_both_packages_are_importable_here() -> None:
    assert importlib.util.find_spec("behaviorlm") is not None
    assert importlib.util.find_spec("behaviorlm_ray") is not None


def test_jobs_are_small() -> None:
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in python_files(JOBS)}
    assert all(length <= 80 for length in lengths.values()), lengths


def test_test_files_are_not_endless() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in python_files(ROOT / "tests")
    }
    assert not {path: length for path, length in lengths.items() if length > 400}
