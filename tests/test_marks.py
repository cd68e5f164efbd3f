"""Which tests are left out of `make test-fast`: told from what their files reach."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import marks

Plant = Callable[[str, str], Path]


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plant]:
    """Writes files of a project of its own; what was read of this one is forgotten meanwhile."""
    monkeypatch.setattr(marks, "PLACES", (tmp_path, tmp_path / "platform"))
    monkeypatch.setattr(marks, "TESTS", tmp_path / "tests")

    def written(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
        return path

    def forget() -> None:
        for cached in (
            marks.is_heavy_file,
            marks.is_heavy_folder,
            marks.imported,
            marks.names_of,
            marks.file_of,
        ):
            cached.cache_clear()

    forget()
    yield written
    forget()


def test_a_model_or_a_process_makes_a_test_heavy_however_far_it_is(plant: Plant) -> None:
    plant("platform/behaviorlm_ray/b.py", "from transformers.models.llama import Model\nclass Own: ...")
    plant("platform/behaviorlm_ray/a/__init__.py", "from behaviorlm_ray.a.light import plain\nfar = 1")
    plant("platform/behaviorlm_ray/a/light.py", "plain = 1")
    plant("platform/behaviorlm_ray/a/far.py", "from behaviorlm_ray import b")
    plant("behaviorlm/own.py", "import subprocess")  # which the product may, where it is not asked to
    plant("tests/starter.py", "import subprocess")
    for name, text, is_heavy in (
        ("plain", "import sys\nfrom pathlib import Path", False),
        ("process", "import subprocess", True),
        ("torch", "from torch import Tensor", True),
        ("submodule", "import torch.distributed as dist", True),
        ("constant", "from behaviorlm_ray.b import CONSTANT", True),
        ("far", "from behaviorlm_ray.a import far", True),
        ("handed_on", "from behaviorlm_ray.a import plain", False),
        ("helped", "from tests.starter import run", True),
        ("product", "from behaviorlm.own import g", False),
        ("tried", "try:\n    import torch\nexcept ImportError:\n    pass", True),
        ("typed", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch", False),
        ("inside", "def test() -> None:\n    import torch", False),
    ):
        assert marks.is_heavy_file(plant(f"tests/test_{name}.py", text)) == is_heavy, name


def test_a_conftest_that_reaches_a_model_makes_all_below_its_folder_heavy(plant: Plant) -> None:
    plant("tests/room/conftest.py", "import torch")
    plant("tests/other/conftest.py", "import subprocess")  # a fixture that its tests need not use
    assert marks.is_heavy_file(plant("tests/room/below/test_a.py", "x = 1"))
    assert not marks.is_heavy_file(plant("tests/other/test_a.py", "x = 1"))


def test_fixtures_that_make_a_model_or_a_server_make_a_test_heavy(
    request: pytest.FixtureRequest, plant: Plant
) -> None:
    plain = pytest.Function.from_parent(request.node.parent, name="planted", callobj=lambda: None)
    plain.path = plant("tests/test_planted.py", "x = 1")
    plain.fixturenames[:] = ["tmp_path"]
    assert not marks.is_heavy(plain)
    plain.fixturenames[:] = ["tmp_path", "s3_endpoint"]
    assert marks.is_heavy(plain)


def test_a_run_without_what_is_heavy_does_not_even_import_it(
    pytestconfig: pytest.Config, plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    heavy, light = plant("tests/test_heavy.py", "import torch"), plant("tests/test_light.py", "x = 1")
    folder = plant("tests/room/conftest.py", "import torch").parent
    ignored = pytestconfig.hook.pytest_ignore_collect
    for expression, left_out in (
        ("not slow", False),
        ("not heavy and not slow", True),
        ("ray or not heavy", False),
    ):
        monkeypatch.setattr(pytestconfig.option, "markexpr", expression)
        assert bool(ignored(collection_path=heavy, config=pytestconfig)) == left_out
        assert bool(ignored(collection_path=folder, config=pytestconfig)) == left_out
        assert not ignored(collection_path=light, config=pytestconfig)
