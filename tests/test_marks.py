"""Which tests are left out of `make test-fast`: told from what their modules reach."""

import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

from tests.marks import is_heavy


@pytest.fixture
def item(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """This test as an item of a planted module; returns what changes the module's names."""

    def planted(name: str, **values: Any) -> pytest.Item:
        module = ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)
        made = pytest.Function.from_parent(request.node.parent, name="planted", callobj=lambda: None)
        monkeypatch.setattr(type(made), "module", module)
        return made

    return planted


def from_module(name: str) -> type:
    """A class that says that it comes from there."""
    return type("Found", (), {"__module__": name})


def test_a_model_or_a_process_makes_a_test_heavy_however_far_it_is(item: Any) -> None:
    assert not is_heavy(item("tests.planted_plain", sys=sys, Path=from_module("pathlib")))
    assert is_heavy(item("tests.planted_process", subprocess=subprocess))
    assert is_heavy(item("tests.planted_torch", Tensor=from_module("torch")))
    item("behaviorlm.planted_b", Model=from_module("transformers.models.llama"))
    item("behaviorlm.planted_a", f=from_module("behaviorlm.planted_b"))
    assert is_heavy(item("tests.planted_far", g=from_module("behaviorlm.planted_a")))
    item("tests.planted_starter", subprocess=subprocess)
    assert is_heavy(item("tests.planted_helped", run=from_module("tests.planted_starter")))
    item("behaviorlm.planted_own", subprocess=subprocess)  # which the product may, where it is not asked to
    assert not is_heavy(item("tests.planted_product", g=from_module("behaviorlm.planted_own")))


def test_fixtures_that_make_a_model_or_a_server_make_a_test_heavy(item: Any) -> None:
    plain = item("tests.planted_fixture")
    plain.fixturenames[:] = ["tmp_path"]
    assert not is_heavy(plain)
    plain.fixturenames[:] = ["tmp_path", "s3_endpoint"]
    assert is_heavy(plain)
