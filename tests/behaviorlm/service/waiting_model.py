"""A predictor that waits until it may answer, so that a queue fills."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

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


def waiting(model: BehaviorModel) -> WaitingModel:
    """The model, waiting."""
    return WaitingModel(model.parts)
