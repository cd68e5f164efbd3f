"""Micro-batches: what comes while others are answered is answered together, on one thread, from a bounded queue."""

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from behaviorlm.predictor.answers import Prediction
from behaviorlm.predictor.behavior_model import BehaviorModel, Choices
from behaviorlm.predictor.histories import History
from behaviorlm.service.measures import Measures
from behaviorlm.service.settings import BatchSettings


class QueueFullError(Exception):
    """More histories wait than may."""


@dataclass(frozen=True)
class Ask:
    """One history that waits, with the model that was served when it came."""

    model: BehaviorModel
    history: History
    choices: Choices
    answer: "asyncio.Future[Prediction]"


class Batcher:
    """The queue of a service and the thread that empties it. Its methods belong to the event loop that started it."""

    def __init__(self, settings: BatchSettings, room: int, measures: Measures) -> None:
        self._settings, self._room, self._measures = settings, room, measures
        self._waiting: deque[Ask] = deque()
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

    def check_room(self, number: int) -> None:
        """Raise QueueFullError unless so many may be added now."""
        if len(self._waiting) + number > self._room:
            raise QueueFullError

    async def ask(
        self, model: BehaviorModel, histories: Sequence[History], choices: Choices
    ) -> list[Prediction]:
        """The predictions of histories. Raises QueueFullError, and what the predictor raises."""
        self.check_room(len(histories))
        loop = asyncio.get_running_loop()
        asks = [Ask(model, history, choices, loop.create_future()) for history in histories]
        self._waiting += asks
        self._tell()
        return await asyncio.gather(*(ask.answer for ask in asks))

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
            (self._full, len(self._waiting) >= self._settings.histories),
        ):
            event.set() if holds else event.clear()
        if self._waiting:
            self._idle.clear()
        self._measures.queue.set(len(self._waiting))

    async def _answer_batches(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._some.wait()
            if self._settings.wait_ms and not self._is_closing:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._full.wait(), self._settings.wait_ms / 1000)
            taken = min(len(self._waiting), self._settings.histories)
            batch = [self._waiting.popleft() for _ in range(taken)]
            self._tell()
            batch = [ask for ask in batch if not ask.answer.done()]  # nobody waits for the others any more
            self._measures.batches.observe(len(batch))
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


def answers(asks: Sequence[Ask]) -> list[Prediction | Exception]:
    """Each one's answer, or why there is none. Those of one model and the same choices are predicted together.

    Where that fails each is tried alone, so that one request cannot spoil another's.
    """
    together: dict[tuple[int, Choices], list[int]] = {}
    for place, ask in enumerate(asks):
        together.setdefault((id(ask.model), ask.choices), []).append(place)
    found: dict[int, Prediction | Exception] = {}
    for places in together.values():
        group = [asks[place] for place in places]
        found |= dict(zip(places, _predicted(group), strict=True))
    return [found[place] for place in range(len(asks))]


def _predicted(group: Sequence[Ask]) -> Sequence[Prediction | Exception]:
    first = group[0]
    try:
        return first.model.predict_histories([ask.history for ask in group], first.choices)
    # Whatever it is, it is handed to the one who asked, and the thread goes on.
    except Exception as error:
        return [error] if len(group) == 1 else [_predicted([ask])[0] for ask in group]
