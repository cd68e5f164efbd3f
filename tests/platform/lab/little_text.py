"""Base models of tests read a fiftieth of the text: what a recipe fixes does not depend on how much there is of it."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from behaviorlm_lab.pretraining import base_model, check


@contextmanager
def little_text() -> Iterator[None]:
    """While the context lasts, the recipe of this version has little text, and its curve a point every two steps."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (base_model, check):
            patch.setattr(module, "SENTENCES", 400)
            patch.setattr(module, "CONVERSATIONS", 80)
        patch.setattr(base_model, "CURVE_STEPS", 2)
        patch.setattr(check, "WINDOWS", 8)
        yield
