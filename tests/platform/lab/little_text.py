"""Base models of tests read little text, and need not learn from it: what a recipe fixes does not depend on that."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from behaviorlm_lab.pretraining import base_model, check, documents


@contextmanager
def little_text() -> Iterator[None]:
    """While the context lasts, the recipe has little text and no gate, and its curve a point every two steps."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (base_model, check):
            patch.setattr(module, "SENTENCES", 400)
            patch.setattr(module, "CONVERSATIONS", 80)
        for module in (base_model, documents):
            patch.setattr(module, "BATCH_CHATS", 6)
        patch.setattr(base_model, "BATCH_OTHERS", 2)
        patch.setattr(base_model, "PROBE_CHATS", 30)
        patch.setattr(base_model, "CURVE_STEPS", 2)
        patch.setattr(base_model, "GATE", 0.0)
        yield
