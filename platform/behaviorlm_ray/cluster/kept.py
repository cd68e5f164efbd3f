"""Workers that stay for a while after their work: warm for the next work of their kind, out of the way of all other.

Starting processes and importing libraries takes longer than many a tuning. But whoever stays holds CPUs that others
may wait for: they go when somebody makes room, and by themselves when nobody has asked for them for some seconds.
"""

import threading
from typing import Any, Generic, Protocol, TypeVar

KEPT_SECONDS = 15.0
"""So long workers without work stay: between two tunings lies a commit."""


class Workers(Protocol):
    """Workers that can be given up."""

    def close(self) -> None:
        """End them; returns when their room is free, or soon will be."""


WorkersT = TypeVar("WorkersT", bound=Workers)


class Kept(Generic[WorkersT]):
    """A place for the workers of one kind in this process. State: who stays, and until when."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._workers: WorkersT | None = None
        self._timer: threading.Timer | None = None
        _places.append(self)

    def keep(self, workers: WorkersT) -> None:
        """Let them stay; who stayed before them goes."""
        before = self.take()
        if before is not None:
            before.close()
        with self._lock:
            self._workers = workers
            self._timer = threading.Timer(KEPT_SECONDS, self._give_up, [workers])
            self._timer.daemon = True
            self._timer.start()

    def take(self) -> WorkersT | None:
        """Who stays, if anybody does; they are the caller's from now on."""
        with self._lock:
            workers, self._workers = self._workers, None
            if self._timer is not None:
                self._timer.cancel()
                self._timer = (
                    None  # it names them, and what they hold in the cluster lives as long as they are named
                )
            return workers

    def _give_up(self, workers: WorkersT) -> None:
        with self._lock:
            if self._workers is not workers:  # taken at the last moment
                return
            self._workers = self._timer = None
        workers.close()


_places: list[Kept[Any]] = []


def make_room() -> None:
    """End all workers that stay without work in this process."""
    for place in _places:
        workers = place.take()
        if workers is not None:
            workers.close()
