"""Micro-batches: what comes while others are answered is answered together, on one thread, from a bounded queue."""

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from behaviorlm.predictor.answers import Prediction
from behaviorlm.predictor.behavior_model import BehaviorModel, Choices
from behaviorlm.predictor.requests import Request
from behaviorlm.service.measures import Measures
from behaviorlm.service.settings import BatchSettings


class QueueFullError(Exception):
    """More histories wait than may."""


@dataclass(frozen=True)
class Ask:
    """What one client asks and waits for, with the model that was served when it came."""

    model: BehaviorModel
    requests: Sequence[Request]
    choices: Choices
    answer: "asyncio.Future[list[Prediction]]"


class Batcher:
    """The queue of a service and the thread that empties it. Its methods belong to the event loop that started it."""

    def __init__(self, settings: BatchSettings, room: int, measures: Measures) -> None:
        self._settings, self._room, self._measures = settings, room, measures
        self._waiting: deque[Ask] = deque()
        self._histories = 0
        self._some, self._full, self._idle = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._idle.set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="predict")
        self._work: asyncio.Task[None] | None = None
        self._is_closing = False

    def start(self) -> None:
        """Begin to answer."""
        self._work = asyncio.create_task(self._answer_batches())

    @property
    def is_ready(self) -> bool:
        """Whether it takes requests and answers them."""
        return self._work is not None and not self._work.done() and not self._is_closing

    async def ask(
        self, model: BehaviorModel, requests: Sequence[Request], choices: Choices
    ) -> list[Prediction]:
        """Predictions. Raises QueueFullError, and what the predictor raises."""
        if self._histories + len(requests) > self._room:
            raise QueueFullError
        ask = Ask(model, requests, choices, asyncio.get_running_loop().create_future())
        self._waiting.append(ask)
        self._histories += len(requests)
        self._tell()
        return await ask.answer

    async def close(self) -> None:
        """Answer all that waits, then end."""
        self._is_closing = True
        await self._idle.wait()
        if self._work is not None:
            self._work.cancel()
            with suppress(asyncio.CancelledError):
                await self._work
        self._thread.shutdown()

    def _tell(self) -> None:
        """Set what others wait for to what the queue is like now."""
        for event, holds in (
            (self._some, bool(self._waiting)),
            (self._full, self._histories >= self._settings.histories),
        ):
            event.set() if holds else event.clear()
        if self._waiting:
            self._idle.clear()
        self._measures.queue.set(self._histories)

    async def _answer_batches(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._some.wait()
            if self._settings.wait_ms and not self._is_closing:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._full.wait(), self._settings.wait_ms / 1000)
            batch = self._taken()
            self._tell()
            batch = [ask for ask in batch if not ask.answer.done()]  # nobody waits for the others any more
            self._measures.batches.observe(sum(len(ask.requests) for ask in batch))
            found = await loop.run_in_executor(self._thread, answers, batch)
            for ask, answer in zip(batch, found, strict=True):
                if ask.answer.done():
                    continue
                if isinstance(answer, Exception):
                    ask.answer.set_exception(answer)
                else:
                    ask.answer.set_result(answer)
            if not self._waiting:
                self._idle.set()

    def _taken(self) -> list[Ask]:
        """The first that wait: a batch of histories, the last request whole."""
        batch, histories = [], 0
        while self._waiting and histories < self._settings.histories:
            batch.append(self._waiting.popleft())
            histories += len(batch[-1].requests)
        self._histories -= histories
        return batch


def answers(asks: Sequence[Ask]) -> list[list[Prediction] | Exception]:
    """Each one's answer, or why there is none. Those of one model and the same choices are predicted together.

    Where that fails each is tried alone, so that one request cannot spoil another's.
    """
    together: dict[tuple[int, Choices], list[int]] = {}
    for place, ask in enumerate(asks):
        together.setdefault((id(ask.model), ask.choices), []).append(place)
    found: dict[int, list[Prediction] | Exception] = {}
    for places in together.values():
        found |= dict(zip(places, _predicted([asks[place] for place in places]), strict=True))
    return [found[place] for place in range(len(asks))]


def _predicted(group: Sequence[Ask]) -> list[list[Prediction] | Exception]:
    model, choices = group[0].model, group[0].choices
    try:
        histories = model.read([request for ask in group for request in ask.requests])
        predictions = iter(model.predict_histories(histories, choices))
    # Whatever it is, it is handed to the one who asked, and the thread goes on.
    except BaseException as error:
        if len(group) > 1:
            return [_predicted([ask])[0] for ask in group]
        # A panic of compiled code is no Exception, and would end the task that waits for this thread.
        return [error if isinstance(error, Exception) else RuntimeError(type(error).__name__)]
    return [list(islice(predictions, len(ask.requests))) for ask in group]
