"""Worlds drawn from a seed: who takes part, what lies there at the start, and which faults come when."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from behaviorlm_ray.upkeep.removal import Kind
from tests.platform.stages.simulator.bucket import Delivery
from tests.platform.stages.simulator.cast import (
    LEASE_SECONDS,
    Plan,
    Stage,
    cleans,
    folder_of,
    runs,
)
from tests.platform.stages.simulator.watch import Violation, Watch
from tests.platform.stages.simulator.world import Process

QUIET = 150.0
"""Seconds after which no fault happens any more."""


@dataclass
class Weather:
    """A network drawn from a seed. The shares are of requests."""

    random: random.Random
    slow: float = 0.05
    lost: float = 0.0
    late: float = 0.0
    refused: float = 0.0
    stale: float = 0.0
    down: dict[str, tuple[float, float]] = field(default_factory=dict)
    blows: dict[tuple[str, int], Callable[[], None]] = field(default_factory=dict)
    sent: Counter[str] = field(default_factory=Counter)
    stage: Stage | None = None

    def deliver(self, process: Process, verb: str, key: str) -> Delivery:
        """Of a request that is sent now."""
        draw, now = self.random.random, self.stage.world.time if self.stage else 0.0
        there, back = draw() * self.slow, draw() * self.slow
        if now > QUIET:
            return Delivery(there, back)
        self.sent[process.name] += 1
        blow = self.blows.get((process.name, self.sent[process.name]))
        if blow is not None and self.stage is not None:
            self.stage.world.at(2 * draw() * (there + back), blow)
        begins, ends = self.down.get(process.name, (0.0, 0.0))
        if begins <= now < ends:
            return Delivery(None, None)
        chance = draw()
        if chance < self.lost:
            return Delivery(None if draw() < 0.3 else there, None)
        if chance < self.lost + self.late:
            return Delivery(there + draw() * 2.5 * LEASE_SECONDS, None)
        return Delivery(there, back, refused=chance > 1 - self.refused)

    def staleness(self, process: Process) -> float:
        """How old a listing is."""
        now = self.stage.world.time if self.stage else 0.0
        return self.stale * self.random.random() if now < QUIET else 0.0


@dataclass(frozen=True)
class Outcome:
    """What one world came to: how many steps it took, and the states it passed."""

    seed: int
    steps: int
    seconds: float
    attempts: int
    kinds: frozenset[str]
    states: frozenset[int]


def play(seed: int, tell: Callable[[str], None] | None = None) -> Outcome:
    """One world. Raises Violation, with the seed, if something does not hold. tell: is told each change."""
    try:
        return _play(seed, tell)
    except AssertionError as error:
        raise Violation(f"seed {seed}: {error}") from error


def _play(seed: int, tell: Callable[[str], None] | None) -> Outcome:
    draw = random.Random(seed)
    weather = Weather(draw, slow=draw.choice((0.01, 0.2, 2.0)))
    stage = Stage(weather)
    weather.stage = stage
    kinds = _faults(draw, weather)
    calm = not kinds
    if calm:
        weather.slow = 0.2
    names = ("tune",) if draw.random() < 0.7 else ("tune", "score")
    kinds |= _past(draw, stage, names)
    watch = Watch(stage)
    is_new = not stage.bucket.objects
    processes = _runners(draw, stage, names, kinds)
    if draw.random() < 0.35:
        _cleaners(draw, stage, kinds)
    if not calm:
        _blows(draw, stage, processes, kinds)
    last = stage.process("last", 9)
    stage.world.begin(last, runs(stage, last, Plan(names, reads=0.1, is_recorded=True)), after=QUIET + 1)
    states: set[int] = set()
    stage.bucket.watchers.append(lambda change: states.add(stage.state()))
    if tell is not None:
        stage.bucket.watchers.append(lambda change: tell(str(change)))
    stage.play()
    watch.ended()
    final = next(run for run in stage.runs if run.process is last)
    for name in names:
        folder = folder_of(name).name
        if not watch.verifies(folder, watch.manifest_of(folder)):
            raise Violation(f"no output of {folder} in the end: {final.error!r}") from final.error
    begun = [run for run in stage.runs if run.attempts]
    if calm and is_new and len(begun) > 1 and not kinds & {"failing bodies", "cleaning"}:
        raise Violation(f"{len(begun)} processes ran, though each could see the other at work")
    return Outcome(seed, stage.world.steps, stage.world.time, len(begun), frozenset(kinds), frozenset(states))


def _faults(draw: random.Random, weather: Weather) -> set[str]:
    kinds = set()
    if draw.random() < 0.5:
        weather.lost = draw.choice((0.02, 0.1, 0.4))
        kinds.add("lost answers")
    if draw.random() < 0.3:
        weather.late = draw.choice((0.02, 0.1))
        kinds.add("late requests")
    if draw.random() < 0.2:
        weather.refused = 0.02
        kinds.add("refusals")
    if draw.random() < 0.2:
        weather.stale = draw.choice((1.0, 20.0))
        kinds.add("stale lists")
    if draw.random() < 0.3:
        kinds.add("rot")
    if draw.random() < 0.6:
        kinds.add("crashes")
    if draw.random() < 0.6:
        kinds.add("pauses")
    if draw.random() < 0.3:
        kinds.add("outages")
    if draw.random() < 0.1:
        weather.lost = weather.late = weather.refused = weather.stale = 0.0
        kinds.clear()
    return kinds


def _past(draw: random.Random, stage: Stage, names: tuple[str, ...]) -> set[str]:
    """What an earlier process left: nothing, an output, a damaged one, or checkpoints and half an attempt."""
    what = draw.choice(
        ("nothing", "nothing", "an output", "a damaged output", "a damaged manifest", "leftovers")
    )
    if what == "nothing":
        return set()
    objects = stage.bucket.objects
    objects.update(past_of(names, is_whole=what != "leftovers"))
    for name in names:
        place = folder_of(name).key
        if what == "a damaged output":
            [rows] = [
                key for key in objects if key.startswith(f"{place}/attempts/past") and key.endswith("rows-0")
            ]
            objects[rows] += b"!"
        elif what == "a damaged manifest":
            objects[f"{place}/manifest.json"] = objects[f"{place}/manifest.json"].replace(
                b'"started": "2', b'"started": "3'
            )
        if what != "an output" or draw.random() < 0.5:
            objects[f"{place}/checkpoints/gone/step-00000001/weights"] = b"1 by nobody"
            objects[f"{place}/checkpoints/gone/step-00000001/checkpoint.json"] = b"{}"
            objects[f"{place}/attempts/gone/rows-0"] = b"half"
    return {what}


def past_of(names: tuple[str, ...], *, is_whole: bool) -> dict[str, bytes]:
    """The objects that an undisturbed run leaves, or one that was cut short while it held its lease."""
    key = (names, is_whole)
    if key not in _PAST:
        stage = Stage(Weather(random.Random(0), slow=0.0))
        process = stage.process("past", 7, name="past")
        stage.world.begin(process, runs(stage, process, Plan(names)))
        if not is_whole:
            stage.world.at(10.0, lambda: stage.world.crash(process))
        stage.play()
        _PAST[key] = dict(stage.bucket.objects)
    return _PAST[key]


_PAST: dict[tuple[tuple[str, ...], bool], dict[str, bytes]] = {}


def _runners(draw: random.Random, stage: Stage, names: tuple[str, ...], kinds: set[str]) -> list[Process]:
    """Two or three processes that run the stages, on one machine or several, whose clocks may differ."""
    skews = dict.fromkeys("ab", 0.0)
    if draw.random() < 0.4:
        kinds.add("skewed clocks")
        skews = {machine: draw.uniform(-4, 4) * LEASE_SECONDS for machine in skews}
    found = []
    for number in range(draw.choice((2, 2, 3))):
        machine = draw.choice("ab")
        process = stage.process(machine, number, skews[machine])
        plan = Plan(
            tuple(draw.sample(names, len(names))),
            seconds=draw.choice((0.0, 1.0, 4.0)),
            reads=draw.choice((0.0, 5.0)),
            fails=draw.choice(("", "", "", "", "", names[-1])),
            has_checkpoints=draw.random() < 0.7,
            has_scratch=draw.random() < 0.3,
            is_recorded=draw.random() < 0.7,
        )
        if plan.fails:
            kinds.add("failing bodies")
        stage.world.begin(
            process, runs(stage, process, plan), after=draw.choice((0.0, 0.0, 15.0)) * draw.random()
        )
        found.append(process)
    return found


def _cleaners(draw: random.Random, stage: Stage, kinds: set[str]) -> None:
    kinds.add("cleaning")
    chosen: tuple[Kind, ...] = draw.choice((("attempts",), ("stages",), ("attempts", "stages")))
    if "stale lists" in kinds:
        chosen = ("attempts",)  # who asks for a stage is told by a list
    process = stage.process(draw.choice("abc"), 8)
    work = cleans(stage, process, chosen, draw.choice((0.0, 0.0, 10.0, 30.0)))
    stage.world.begin(process, work, after=draw.choice((0.0, 10.0, 40.0)) * draw.random())


def _blows(draw: random.Random, stage: Stage, processes: list[Process], kinds: set[str]) -> None:
    """Crashes, pauses and outages, most of them at the moment of a request, for there it matters."""
    weather = stage.bucket.network
    assert isinstance(weather, Weather)
    if "rot" in kinds:
        stage.world.at(draw.random() * 60.0, lambda: _rot(draw, stage))
    for process in stage.processes:
        if "outages" in kinds and draw.random() < 0.5:
            begins = draw.random() * 40.0
            weather.down[process.name] = begins, begins + draw.random() * 3 * LEASE_SECONDS
        if "crashes" in kinds and draw.random() < 0.6:
            weather.blows[process.name, draw.randrange(1, 60)] = partial(_crash, draw, stage, process)
        for _ in range(2):
            if "pauses" in kinds and draw.random() < 0.6:
                seconds = draw.random() * 4 * LEASE_SECONDS
                weather.blows.setdefault(
                    (process.name, draw.randrange(1, 60)),
                    partial(_pause, stage, process, seconds),
                )


def _pause(stage: Stage, process: Process, seconds: float) -> None:
    process.paused = max(process.paused, stage.world.time + seconds)


def _rot(draw: random.Random, stage: Stage) -> None:
    """Damage a file of an output that is committed, or its manifest."""
    objects = stage.bucket.objects
    manifests = b"".join(content for key, content in objects.items() if key.endswith("/manifest.json"))
    outputs = [key for key in objects if "/rows-" in key and key.split("/")[-2].encode() in manifests]
    outputs += [key for key in objects if key.endswith("/manifest.json")]
    if outputs:
        key = draw.choice(outputs)
        stage.bucket.put(stage.fate, key, stage.bucket.objects[key] + b"!")


def _crash(draw: random.Random, stage: Stage, process: Process) -> None:
    if process.is_dead:
        return
    stage.world.crash(process)
    if draw.random() < 0.6:  # the command is repeated, maybe by a process of the same number
        again = stage.process(
            process.machine, draw.choice((process.number, process.number + 20)), process.skew
        )
        stage.world.begin(again, runs(stage, again, Plan(is_recorded=True)), after=draw.random() * 5.0)
