"""Where tuning tasks are handed to the workers of a fit, and outcomes back to who asked. Nothing heavy is imported."""

import asyncio
import uuid
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


class Desk:
    """An actor. It hands tasks and outcomes on as bytes, so its process needs none of the libraries that tune.

    State: the task that is being worked on, the last outcome, who works, and whether they come back for more.
    """

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._task: tuple[str, bytes] | None = None
        self._outcome: bytes | None = None
        self._members: list[Any] = []
        self._starts = 0
        self._is_closed = False
        self._has_ended = False

    async def give(self, task: bytes) -> bytes | None:
        """Hand a task to the workers. Returns its outcome, or None if they have ended without one."""
        async with self._changed:
            self._task, self._outcome = (uuid.uuid4().hex, task), None
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self._outcome is not None or self._has_ended)
            return self._outcome

    async def take(self, last: str | None) -> tuple[str, bytes] | None:
        """A worker that is done with task `last` waits for another: its name and the task. None: there will be none."""

        def is_there() -> bool:
            return self._is_closed or (self._task is not None and self._task[0] != last)

        async with self._changed:
            await self._changed.wait_for(is_there)
            return None if self._is_closed else self._task

    async def tell(self, outcome: bytes) -> None:
        """The workers are done with the task. Who starts anew from now on does not get it again."""
        async with self._changed:
            self._task, self._outcome = None, outcome
            self._changed.notify_all()

    async def join(self, member: Any, rank: int) -> None:
        """A worker, an actor of this rank, has started."""
        self._members.append(member)
        self._starts += rank == 0

    async def starts(self) -> int:
        """How often workers were started: more than once after a failure, a notice, or a change of their number."""
        return self._starts

    async def members(self) -> list[Any]:
        """All that ever started."""
        return self._members

    async def close(self) -> None:
        """No more tasks: workers end when they ask for one."""
        async with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    async def end(self) -> None:
        """There are no workers any more."""
        async with self._changed:
            self._has_ended = True
            self._changed.notify_all()


def open_desk() -> Any:
    """A desk on this node: it lives as long as who asks there."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(Desk).remote()  # type: ignore[call-overload]  # types lack it
