"""One world in which several processes run production code by turns: virtual time, one task awake at a time.

Each task of a process is a fiber, because the code under test is synchronous. A fiber gives way only where it sends a
request, sleeps or waits for another task, so what happens is decided by the queue alone: the same seed or the same
choices give the same world.
"""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.platform.stages.simulator.fibers import Fiber, new_fiber

Action = Callable[[], Any]


class Crashed(BaseException):
    """Ends the tasks of a process that is gone. Nothing that it still does has any effect."""


class EndlessWait(AssertionError):
    """A world in which something never ends."""


@dataclass(eq=False)
class Process:
    """One process on a machine. `skew`: what its clock is ahead of the others', seconds; `paused`: until when."""

    name: str
    machine: str
    number: int
    skew: float = 0.0
    paused: float = 0.0
    is_dead: bool = False
    names: "itertools.count[int]" = field(default_factory=itertools.count)


@dataclass(eq=False)
class Task:
    """What a process does at one time. history: a hash of all that it was told so far, which decides what it does."""

    process: Process
    work: Action
    result: Any = None
    has_ended: bool = False
    wake: int = 0
    history: int = 0
    waiter: "Task | None" = None
    fiber: Fiber | None = None


class Chooser(Protocol):
    """Decides what goes on of several that could; None as a world's chooser: the one that has waited longest."""

    def choose(self, world: "World", ready: list["Entry"]) -> "Entry":
        """One of the entries, all of which are due now. May crash or pause a process first, or raise `Crashed`."""


Entry = tuple[float, int, Task | None, Action | None, int]
"""When, in which order, and the task that goes on (while its `wake` is the number), or what else happens."""


class World:
    """State: the time, the queue of what is to happen, the tasks, and the one that is awake."""

    def __init__(self, chooser: Chooser | None = None, longest: float = 5000.0, most: int = 20_000) -> None:
        self.time = 0.0
        self.chooser = chooser
        self.tasks: list[Task] = []
        self.awake: Task | None = None
        self.steps = 0
        self.failure: BaseException | None = None
        self._limits = longest, most
        self.queue: list[Entry] = []
        self._order = itertools.count()
        self._is_over = False
        self._following: Task | None = None

    # What goes on outside of the tasks

    def begin(self, process: Process, work: Action, after: float = 0.0) -> Task:
        """A new task of a process."""
        task = Task(process, work)
        self.tasks.append(task)
        self._wake_at(task, self.time + after)
        return task

    def at(self, seconds: float, action: Action) -> None:
        """Let something happen after so long that is of no process. It may not wait."""
        heapq.heappush(self.queue, (self.time + seconds, next(self._order), None, action, 0))

    def run(self) -> None:
        """Until nothing is left to do. Raises what an action or the chooser raised."""
        try:
            self._following = self._next()
            while self._following is not None:
                self._resume(self._following)
        finally:
            self._unwind()
        if self.failure is not None:
            raise self.failure

    def crash(self, process: Process) -> None:
        """End a process. What it has sent may still arrive."""
        process.is_dead = True

    # What tasks call

    @property
    def process(self) -> Process:
        """The process whose task is awake."""
        assert self.awake is not None
        return self.awake.process

    def wait(self, until: float = float("inf")) -> None:
        """The task that calls this goes on then. Raises Crashed if its process is gone by that time."""
        task = self.awake
        assert task is not None
        if self._is_over or task.process.is_dead:
            raise Crashed
        if until < float("inf"):
            if task.process.paused <= max(self.time, until) and self.skips_to(until):
                task.wake += 1
                return
            self._wake_at(task, until)
        following = self._next()
        if following is not task:
            assert task.fiber is not None
            self._following = following
            task.fiber.give_way()
        if self._is_over or task.process.is_dead:
            raise Crashed

    def skips_to(self, until: float) -> bool:
        """Go to that time in one step if nothing else happens till then, as the queue would. Returns whether it did."""
        is_something_due = self.chooser is not None or (self.queue and self.queue[0][0] <= until)
        if is_something_due or until > self._limits[0] or self.steps >= self._limits[1]:
            return False
        self.steps += 1
        self.time = max(self.time, until)
        return True

    def require_alive(self) -> None:
        """Raise Crashed if the process that is awake is gone."""
        if self._is_over or self.process.is_dead:
            raise Crashed

    def wait_for(self, other: Task) -> None:
        """Until another task has ended."""
        while not other.has_ended:
            other.waiter = self.awake
            self.wait()

    def told(self, what: object) -> None:
        """Note something that the task that is awake has learned and its next steps depend on."""
        task = self.awake
        assert task is not None
        task.history = hash((task.history, what))

    # The queue

    def _wake_at(self, task: Task, time: float) -> None:
        task.wake += 1
        heapq.heappush(self.queue, (time, next(self._order), task, None, task.wake))

    def _next(self) -> Task | None:
        """Let happen what is due until a task is; None if nothing is left, or something failed."""
        try:
            while (entry := self._pop()) is not None:
                time, _, task, action, _ = entry
                self.steps += 1
                self.time = max(self.time, time)
                if self.time > self._limits[0] or self.steps > self._limits[1]:
                    raise EndlessWait(f"not over at {self.time:.0f} s, after {self.steps} steps")
                if task is not None:
                    return task
                assert action is not None
                action()
        except BaseException as error:
            self.failure = error
        return None

    def _pop(self) -> Entry | None:
        while self.queue:
            if self.chooser is None:
                entry = heapq.heappop(self.queue)
            else:
                self.queue = [one for one in sorted(self.queue) if self._is_wanted(one)]
                ready = [one for one in self.queue if one[0] <= max(self.time, self.queue[0][0])]
                if not ready:
                    return None
                entry = self.chooser.choose(self, ready)
                self.queue.remove(entry)
                heapq.heapify(self.queue)
            if not self._is_wanted(entry):
                continue
            time, _, task, _, _ = entry
            if task is None or task.process.paused <= max(self.time, time):
                return entry
            self._wake_at(task, task.process.paused)
        return None

    def _is_wanted(self, entry: Entry) -> bool:
        _, _, task, _, number = entry
        return task is None or not (task.process.is_dead or task.has_ended or task.wake != number)

    # Fibers

    def _resume(self, task: Task) -> None:
        """Until it gives way or has ended."""
        if task.fiber is None:
            task.fiber = new_fiber(lambda: self._perform(task))
        self.awake = task
        task.fiber.resume()

    def _perform(self, task: Task) -> None:
        try:
            task.result = task.work()
        except BaseException as error:
            task.result = error
        task.has_ended = True
        if self._is_over:
            return
        if task.waiter is not None:
            self._wake_at(task.waiter, self.time)
        self._following = self._next()

    def _unwind(self) -> None:
        """Bring the fibers back that wait in the middle of something."""
        self._is_over = True
        for task in self.tasks:
            if task.fiber is not None and not task.has_ended:
                self._resume(task)
