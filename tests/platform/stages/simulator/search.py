"""Every interleaving of two owners of a stage, with one crash or one long pause at every point, once for each state.

What a process does next follows from what it has been told, so two ways that lead to the same objects, histories and
times have the same continuations, and only the first is followed.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from behaviorlm.errors import StorageError
from tests.platform.stages.simulator.bucket import Delivery
from tests.platform.stages.simulator.cast import Plan, Stage, cleans, folder_of, runs
from tests.platform.stages.simulator.watch import Violation, Watch
from tests.platform.stages.simulator.weather import past_of
from tests.platform.stages.simulator.world import Entry, Process, World

LEASE_SECONDS = 10.0
"""So that looks at a lease and heartbeats come at times without rounding."""
PAUSE = 25.0
LONGEST = 10.0
"""Seconds after which everything is over where nobody is away: a lost answer costs its time-out and no lease."""
LOST = Delivery(there=0.0, back=None), Delivery(there=None, back=None)
"""An answer is lost, or the request."""
DONE = Delivery()


class Seen(BaseException):
    """The world has come to a state that was followed already."""


@dataclass(frozen=True)
class Case:
    """Who is there, and what may happen, once each: `crash` or `pause` of one, `loss` of a request or an answer,
    `rot` of what is committed once all have begun.

    cast: `run` runs the stage, `read` also reads its output slowly, `fail` fails, `stages` and `attempts` clean up.
    past: what lies there, `an output`, `a damaged output`, `half an attempt` or nothing. starts: when each begins.
    """

    faults: tuple[str, ...] = ()
    cast: tuple[str, ...] = ("run", "run")
    machines: str = "ab"
    past: str = ""
    starts: tuple[float, float] = (0.0, 0.0)
    has_checkpoints: bool = False
    has_scratch: bool = False

    def __str__(self) -> str:
        late = f", the second {self.starts[1]:g} s later" if any(self.starts) else ""
        beside = f" beside {self.past}" if self.past else ""
        where = "on one machine" if len(set(self.machines)) == 1 else "on two machines"
        with_checkpoints = " with checkpoints" if self.has_checkpoints else ""
        who, what = " and ".join(self.cast), " and ".join(self.faults) or "no fault"
        return f"{who}{with_checkpoints} {where}{late}{beside}: {what}"


@dataclass
class Search:
    """What was explored of a case: hashes of states, the ways that were followed, and those of them to an end."""

    case: Case
    states: set[int] = field(default_factory=set)
    schedules: int = 0
    ends: int = 0

    def run(self, most: int | None = None) -> None:
        """Follow every way, or the first `most`. Raises Violation with the choices that lead to it."""
        waiting: list[tuple[int, ...]] = [()]
        while waiting and (most is None or self.schedules < most):
            self.schedules += 1
            way = _Way(self, waiting.pop())
            try:
                play(self.case, way)
                self.ends += 1
            except Seen:
                pass
            except AssertionError as error:
                raise Violation(f"{self.case}, choices {way.choices}: {error}") from error
            waiting += way.others


class _Way:
    """One way: the choices that are given, then the first of each. Also the network, which may lose one answer."""

    def __init__(self, search: Search, given: tuple[int, ...]) -> None:
        self.search, self.given = search, given
        self.choices: list[int] = []
        self.others: list[tuple[int, ...]] = []
        self.left = list(search.case.faults)
        self.struck: set[Process] = set()
        self.stage: Stage | None = None

    def choose(self, world: World, ready: list[Entry]) -> Entry:
        """As of `Chooser`: one goes on, or its process is struck before its request takes effect."""
        options: list[tuple[str, Entry]] = [("go on", entry) for entry in ready]
        for fault in self.left:
            if fault == "rot":
                is_due = world.time >= max(self.search.case.starts) and self.committed()
                options += [(fault, ready[0])] if is_due else []
            elif fault != "loss":
                options += [(fault, entry) for entry in ready if entry[2] is not None]
        if len(options) == 1:
            return options[0][1]
        what, entry = options[self._pick(len(options), lambda: self._state(world))]
        task = entry[2]
        if what == "rot":
            self.left.remove(what)
            self.damage()
        elif what != "go on" and task is not None:
            self.left.remove(what)
            self.struck.add(task.process)
            if what == "crash":
                world.crash(task.process)
            else:
                task.process.paused = world.time + PAUSE
        return entry

    def committed(self) -> list[str]:
        """The manifests that are there."""
        return [key for key in self._stage.bucket.objects if key.endswith("/manifest.json")]

    def damage(self) -> None:
        """What is committed is damaged, and checkpoints are lost."""
        bucket = self._stage.bucket
        for key in [key for key in bucket.objects if "/checkpoints/" in key]:
            bucket.put(self._stage.fate, key, None)
        for key in self.committed():
            bucket.put(self._stage.fate, key, bucket.objects[key] + b"!")

    @property
    def _stage(self) -> Stage:
        assert self.stage is not None
        return self.stage

    def deliver(self, process: Process, verb: str, key: str) -> Delivery:
        """As of `Network`: an answer is lost, or not."""
        if "loss" not in self.left or verb in ("get", "head", "list"):
            return DONE
        choice = self._pick(1 + len(LOST), None)
        if not choice:
            return DONE
        self.left.remove("loss")
        return LOST[choice - 1]

    def staleness(self, process: Process) -> float:
        """Listings are never old."""
        return 0.0

    def _pick(self, number: int, state: Callable[[], int] | None) -> int:
        position = len(self.choices)
        if position < len(self.given):
            choice = self.given[position]
        else:
            if state is not None:
                now = state()
                if now in self.search.states:
                    raise Seen
                self.search.states.add(now)
            choice = 0
            self.others += [(*self.choices, other) for other in range(1, number)]
        self.choices.append(choice)
        return choice

    def _state(self, world: World) -> int:
        queue = sorted(
            (time, world.tasks.index(task))
            for time, _, task, _, number in world.queue
            if task and task.wake == number
        )
        tasks = tuple((task.history, task.has_ended, task.process.is_dead) for task in world.tasks)
        return hash((world.time, self._stage.bucket.state, tuple(queue), tasks, tuple(self.left)))


def _work(stage: Stage, process: Process, role: str, case: Case) -> Callable[[], None]:
    if role in ("stages", "attempts"):
        return cleans(stage, process, ("stages",) if role == "stages" else ("attempts",))
    plan = Plan(
        seconds=2.0,
        has_checkpoints=case.has_checkpoints,
        has_scratch=case.has_scratch,
        fails="tune" if role == "fail" else "",
        is_recorded=role == "read" or "stages" in case.cast,
        reads=3.0 if role == "read" else 0.0,
    )
    return runs(stage, process, plan)


def play(case: Case, way: _Way) -> None:
    """One world by choices."""
    stage = Stage(way, way, LEASE_SECONDS)
    way.stage = stage
    objects = stage.bucket.objects
    if case.past == "half an attempt":
        objects[f"{folder_of('tune').key}/attempts/gone/rows-0"] = b"half"
    elif case.past:
        objects.update(past_of(("tune",), is_whole=True))
        [rows] = [key for key in objects if key.endswith("rows-0")]
        objects[rows] += b"!" * (case.past == "a damaged output")
        objects[f"{folder_of('tune').key}/attempts/gone/rows-0"] = b"half"
    watch = Watch(stage)
    for number, (role, machine) in enumerate(zip(case.cast, case.machines, strict=True)):
        process = stage.process(machine, number)
        stage.world.begin(process, _work(stage, process, role, case), after=case.starts[number])
    stage.play()
    watch.ended()
    for run in stage.runs:
        if run.process not in way.struck and isinstance(run.error, StorageError):
            raise Violation(f"{run.process.name}, to which nothing happened, failed: {run.error!r}")
    begun = [run.process.name for run in stage.runs if run.attempts]
    if case.past or "fail" in case.cast or "rot" in case.faults:
        return
    if not way.struck and len(begun) > 1:
        raise Violation(f"{' and '.join(begun)} both ran, though neither was away")
    if not way.struck and stage.world.time > LONGEST:
        raise Violation(f"only over at {stage.world.time} s, though nobody was away")
