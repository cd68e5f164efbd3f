"""The desk between a driver and its workers, without Ray: who gets which task, whatever comes in between."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from behaviorlm_ray.tuning.desk import Desk


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, timeout=30))


async def waits(asked: asyncio.Task[Any]) -> bool:
    """Whether it is still waiting after everything else has had its turn."""
    for _ in range(20):
        await asyncio.sleep(0)
    return not asked.done()


def test_a_task_goes_to_every_worker_once_and_its_outcome_to_who_gave_it() -> None:
    async def story() -> None:
        desk = Desk()
        early = asyncio.create_task(desk.take(None))
        assert await waits(early)
        given = asyncio.create_task(desk.give(b"task"))
        first = await early
        assert first is not None and first[1] == b"task"
        assert await desk.take(None) == first  # another worker
        again = asyncio.create_task(desk.take(first[0]))  # one that is done before worker 0 has told
        assert await waits(again) and await waits(given)
        await desk.tell(b"outcome")
        assert await given == b"outcome"
        assert await waits(again)
        following = asyncio.create_task(desk.give(b"task"))  # alike, and yet another one
        second = await again
        assert second is not None and second[1] == b"task" and second[0] != first[0]
        await desk.tell(b"other outcome")
        assert await following == b"other outcome"

    run(story())


def test_workers_that_start_anew_get_the_task_that_is_not_done_and_no_other() -> None:
    async def story() -> None:
        desk = Desk()
        given = asyncio.create_task(desk.give(b"task"))
        assert await desk.take(None) == await desk.take(None)
        await desk.tell(b"outcome")
        await given
        anew = asyncio.create_task(desk.take(None))
        assert await waits(anew)
        await desk.close()
        assert await anew is None

    run(story())


def test_no_worker_gets_a_task_from_a_closed_desk() -> None:
    async def story() -> None:
        desk = Desk()
        given = asyncio.create_task(desk.give(b"task"))
        await asyncio.sleep(0)
        await desk.close()
        assert await desk.take(None) is None
        assert await waits(given)  # the workers may still be at it
        await desk.end()
        assert await given is None

    run(story())


def test_the_outcome_counts_also_where_the_workers_ended_after_it() -> None:
    async def story() -> None:
        desk = Desk()
        given = asyncio.create_task(desk.give(b"task"))
        await asyncio.sleep(0)
        await desk.tell(b"outcome")
        await desk.end()
        assert await given == b"outcome"

    run(story())


def test_starts_are_counted_by_worker_0_and_every_member_is_known() -> None:
    async def story() -> None:
        desk = Desk()
        for start in range(2):
            for rank in range(3):
                await desk.join((start, rank), rank)
        assert await desk.starts() == 2
        assert len(await desk.members()) == 6

    run(story())
