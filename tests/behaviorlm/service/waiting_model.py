"""A predictor that waits until it may answer, so that a queue fills."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from behaviorlm.predictor.answers import Prediction
from behaviorlm.predictor.behavior_model import BehaviorModel, Choices
from behaviorlm.predictor.histories import History


@dataclass(frozen=True)
class WaitingModel(BehaviorModel):
    """Answers as any other, but only once `may` is set. began: set once it was asked."""

    may: threading.Event = field(default_factory=threading.Event)
    began: threading.Event = field(default_factory=threading.Event)

    def predict_histories(self, histories: Sequence[History], choices: Choices) -> list[Prediction]:
        self.began.set()
        assert self.may.wait(30)
        return super().predict_histories(histories, choices)


def until_queued(client: Any, number: int, asked: Sequence["Future[Any]"], seconds: float = 20) -> None:
    """Wait until so many histories wait. Fails at once where one that was to wait is answered, and after `seconds`."""
    deadline = time.monotonic() + seconds
    while f"behaviorlm_queue_histories {float(number)}\n" not in (told := client.get("/metrics").text):
        answered = [each.result().status_code for each in asked if each.done()]
        queued = [line for line in told.splitlines() if line.startswith("behaviorlm_queue_histories ")]
        assert not answered, f"of {number} requests that were to wait some were answered with {answered}"
        assert time.monotonic() < deadline, f"{queued} after {seconds} s, not {number}"
        time.sleep(0.01)


def waiting(model: BehaviorModel) -> WaitingModel:
    """The model, waiting."""
    return WaitingModel(model.parts)
