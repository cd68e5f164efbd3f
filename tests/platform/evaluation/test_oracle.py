"""Oracles by name: which are known, what is said of others, and that none is imported before it is opened."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from behaviorlm.config import validate_settings
from behaviorlm.errors import ConfigError
from behaviorlm_ray.evaluation.oracle import TruthSettings, installed_oracles

ROOT = Path(__file__).resolve().parents[3]


def test_the_settings_are_the_name_and_the_seed() -> None:
    """Both are part of what identifies finished stages."""
    assert TruthSettings(world="main").model_dump(mode="json") == {"world": "main", "opaque_seed": None}
    assert TruthSettings(world="second", opaque_seed=3).model_dump_json() == (
        '{"world":"second","opaque_seed":3}'
    )


def test_an_unknown_world_is_refused_with_the_known_ones() -> None:
    assert installed_oracles().keys() >= {"main", "second"}
    with pytest.raises(ConfigError, match=r"no world 'third'; known: .*main.*second"):
        validate_settings(TruthSettings, {"world": "third"}, "test")


def printed(script: str, *path: Path) -> list[str]:
    """Lines that a fresh Python prints, with the folders on its path before the project."""
    folders = [*map(str, path), str(ROOT), str(ROOT / "platform")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(folders)}
    run = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    return run.stdout.splitlines()


def test_reading_names_imports_no_package_and_opening_imports_the_one_that_is_named(tmp_path: Path) -> None:
    """The oracle of another package, of which only the metadata and a module are there."""
    metadata = tmp_path / "elsewhere-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[behaviorlm.oracles]\nelsewhere = elsewhere:make\n")
    (tmp_path / "elsewhere.py").write_text(
        "class Made:\n    def __init__(self, seed):\n        self.version = f'elsewhere-{seed}'\nmake = Made\n"
    )
    script = """
import sys
from behaviorlm_ray.evaluation.oracle import TruthSettings
heavy = ("behaviorlm_lab", "elsewhere", "torch", "ray")
settings = TruthSettings(world="elsewhere", opaque_seed=4)
print(sorted(name for name in heavy if name in sys.modules))
print(settings.open().version)
print("elsewhere" in sys.modules, "behaviorlm_lab" in sys.modules)
"""
    assert printed(script, tmp_path) == ["[]", "elsewhere-4", "True False"]


def test_without_any_installed_package_the_message_says_what_to_install() -> None:
    script = """
import sys
from behaviorlm_ray.evaluation import oracle
oracle.entry_points = lambda group: ()
try:
    oracle.TruthSettings(world="main")
except ValueError as error:
    print("pip install -e ." in str(error), "must be installed" in str(error))
"""
    assert printed(script) == ["True True"]
