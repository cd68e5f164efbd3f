"""The packs of the next step are made by a thread while a step runs, so that a device need not wait for them."""

from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def steps_ahead(make: Callable[[int], T], first: int, stop: int) -> Generator[tuple[int, T], None, None]:
    """(step, what `make` gives for it) for the steps from `first` to below `stop`, in their order.

    One thread makes them, one after another and one ahead; none for steps beyond. What `make` raises is raised when its
    step is asked for. To be closed where the steps may end early: that waits for the one being made.
    """
    with ThreadPoolExecutor(1, "packs") as thread:

        def begun(step: int) -> Future[T] | None:
            return thread.submit(make, step) if step < stop else None

        coming, step = begun(first), first
        while coming is not None:
            made = coming.result()
            coming = begun(step + 1)
            yield step, made
            step += 1
