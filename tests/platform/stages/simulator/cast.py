"""Who takes part: processes that run stages as the platform does, read, and clean up, by production's functions."""

import io
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from functools import cache, lru_cache
from types import SimpleNamespace
from typing import Any

from behaviorlm.errors import DataError, StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.stages import attempts, committing, finding, lease, leftovers
from behaviorlm_ray.stages.attempts import StageFolder, StageResult
from behaviorlm_ray.stages.finding import StageOutput, identify
from behaviorlm_ray.stages.host import Host
from behaviorlm_ray.stages.lease import decode_record
from behaviorlm_ray.stages.manifests import decode_manifest
from behaviorlm_ray.stages.run_record import RunRecord
from behaviorlm_ray.stages.running import StageCall, run_group
from behaviorlm_ray.storage import S3Location, s3, s3_access, s3_objects
from behaviorlm_ray.tuning.step_folders import earlier_steps, prune, step_folder, step_of
from behaviorlm_ray.upkeep import removal, stage_states
from behaviorlm_ray.upkeep.removal import Kind, find_removable, remove
from tests.platform.stages.simulator.bucket import Bucket, Client, Network
from tests.platform.stages.simulator.world import Chooser, Process, World

LEASE_SECONDS = 12.0
PATIENCE_SECONDS = 36.0
"""A fifth of production's, as are the times after which a request is given up."""
EPOCH = 1_800_000_000.0
ROOT = S3Location("simulated", "root", PATIENCE_SECONDS)
PARTS = ("rows-0", "rows-1")
STEPS = 2


_decode_once = lru_cache(maxsize=64)(decode_manifest)  # each is read many times in a world
record_of = lru_cache(maxsize=64)(decode_record)
"""What a lease says."""


class SimulatedClock:
    """The clock of whichever process is awake."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now(self) -> float:
        self._world.told(self._world.time)
        return EPOCH + self._world.time + self._world.process.skew

    def monotonic(self) -> float:
        self._world.told(self._world.time)
        return self._world.time

    def sleep(self, seconds: float) -> None:
        self._world.wait(self._world.time + seconds)

    def every(self, seconds: float, work: Callable[[], bool]) -> Callable[[], None]:
        """Each call is a task of its own, so that it goes on beside the work that it belongs to."""
        world, process = self._world, self._world.process
        is_stopped = False
        task = world.begin(process, lambda: beat(), seconds)

        def beat() -> None:
            nonlocal task
            if work() and not is_stopped:
                task = world.begin(process, beat, seconds)

        def stop() -> None:
            nonlocal is_stopped
            is_stopped = True
            if task.fiber is None:
                task.has_ended = True
            else:
                world.wait_for(task)

        return stop


@dataclass
class Run:
    """What a process that runs stages came to. attempts: the names of those it began, by stage folder."""

    process: Process
    outputs: list[StageOutput] = field(default_factory=list)
    error: BaseException | None = None
    told: list[str] = field(default_factory=list)
    attempts: dict[str, str] = field(default_factory=dict)
    using: dict[str, StageFolder] = field(default_factory=dict)
    reading: list[StageOutput] = field(default_factory=list)
    has_ended: bool = False


class Stage:
    """A world with its bucket and processes. State: who is there, what came of them; `fate` damages files."""

    def __init__(
        self, network: Network, chooser: Chooser | None = None, lease_seconds: float = LEASE_SECONDS
    ) -> None:
        self.lease_seconds = lease_seconds
        self.world = World(chooser)
        self.bucket = Bucket(self.world, network)
        self.clock = SimulatedClock(self.world)
        self.processes: list[Process] = []
        self.runs: list[Run] = []
        self.cleaners: dict[Process, tuple[Kind, ...]] = {}
        self.fate = Process("fate", "", 0)

    def process(self, machine: str, number: int = 1, skew: float = 0.0, name: str = "") -> Process:
        """A process more."""
        found = Process(name or f"p{len(self.processes)}", machine, number, skew)
        self.processes.append(found)
        return found

    def host(self, process: Process) -> Host:
        """What production takes from the machine and the process."""

        def start_of(number: int) -> str:
            there = [
                one.name
                for one in self.processes
                if one.machine == process.machine and one.number == number and not one.is_dead
            ]
            self.world.told(tuple(there))
            return there[-1] if there else ""

        name = process.name
        return Host(
            self.clock, process.machine, process.number, start_of, lambda: f"{name}-{next(process.names):02d}"
        )

    @contextmanager
    def production(self) -> Iterator[None]:
        """Production's requests come here, and what it prints goes nowhere. Requests of one call follow each other."""
        client = Client(self.bucket)
        _decode_once.cache_clear()
        swapped: list[tuple[Any, str, Any]] = [
            (attempts, "package_versions", dict),  # takes long to find out, as does the next
            (leftovers, "traceback", SimpleNamespace(format_exception=lambda error: [repr(error)])),
            (stage_states.time, "sleep", self.clock.sleep),
            (s3_access, "client", lambda: client),
            (s3_access, "CLOCK", self.clock),
        ]
        swapped += [(module, "in_threads", _one_by_one) for module in (s3, s3_objects)]
        swapped += [
            (module, "decode_manifest", _decode_once)
            for module in (finding, committing, removal, stage_states)
        ]
        swapped += [(module, "decode_record", record_of) for module in (lease, stage_states)]
        before = [(module, name, getattr(module, name)) for module, name, _ in swapped]
        try:
            for module, name, other in swapped:
                setattr(module, name, other)
            with redirect_stdout(io.StringIO()):
                yield
        finally:
            for module, name, other in before:
                setattr(module, name, other)

    def state(self) -> int:
        """A hash of all objects and of what each process has learned so far."""
        return hash((self.bucket.state, *(task.history for task in self.world.tasks)))

    def play(self) -> None:
        """Run the world to its end."""
        random.seed(0)  # of the pauses between production's tries
        with self.production():
            self.world.run()


def _one_by_one(work: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    return [work(one) for one in items]


def call_of(name: str, body: Callable[[StageFolder], StageResult]) -> StageCall:
    """A stage that is asked for."""
    return StageCall(name, 1, {}, {}, body)


@cache
def folder_of(name: str) -> S3Location:
    """Where it lies."""
    folder = identify(ROOT, name, 1, {}, {}).folder
    assert isinstance(folder, S3Location)
    return folder


@dataclass(frozen=True)
class Plan:
    """How a process that runs stages goes about it. seconds: of each of its works; fails: in which stage's body."""

    names: tuple[str, ...] = ("tune",)
    seconds: float = 3.0
    reads: float = 0.0
    fails: str = ""
    has_checkpoints: bool = True
    has_scratch: bool = False
    is_recorded: bool = False


def runs(stage: Stage, process: Process, plan: Plan) -> Callable[[], None]:
    """The work of a process that runs stages and then reads their outputs."""
    run = Run(process)
    stage.runs.append(run)

    def work() -> None:
        try:
            if plan.is_recorded:
                for name in plan.names:
                    RunRecord(ROOT / process.name).asks_for(folder_of(name).name)
            calls = [call_of(name, _body(stage, run, name, plan)) for name in plan.names]
            run.outputs = run_group(
                ROOT,
                calls,
                lease_seconds=stage.lease_seconds,
                report=run.told.append,
                host=stage.host(process),
            )
            run.using.clear()
            if plan.is_recorded:
                run.reading = run.outputs
                for output in run.outputs:
                    for path in output.manifest.files:
                        stage.clock.sleep(plan.reads)
                        storage.read_bytes(output.folder / path)
                run.reading = []
        except Exception as error:
            run.error = error
        run.using.clear()
        run.reading = []
        run.has_ended = True

    return work


def cleans(
    stage: Stage, process: Process, kinds: tuple[Kind, ...], thinks: float = 0.0
) -> Callable[[], None]:
    """The work of a process that cleans up. thinks: seconds until a person agrees to what was listed."""
    stage.cleaners[process] = kinds

    def work() -> None:
        with suppress(StorageError):
            found = find_removable(str(ROOT), kinds, now=stage.clock.now())
            stage.clock.sleep(thinks)
            for item in found.removable:
                with suppress(StorageError):
                    remove(item, str(ROOT), lease_seconds=stage.lease_seconds, host=stage.host(process))

    return work


def content_of(name: str, attempt: str, part: str) -> bytes:
    """What a body writes into a part: told apart by who wrote it."""
    return f"{name} {attempt} {part}".encode()


def _body(stage: Stage, run: Run, name: str, plan: Plan) -> Callable[[StageFolder], StageResult]:
    def body(folder: StageFolder) -> StageResult:
        run.attempts[folder.stage] = folder.output.name
        run.using[folder.stage] = folder
        for earlier in folder.earlier[:1]:
            storage.list_files(earlier)
        if plan.has_scratch:
            storage.write_replacing(folder.output / "scratch" / "half", b"half")
        if plan.has_checkpoints:
            _tune(stage, folder, plan)
        for part in PARTS:
            stage.clock.sleep(plan.seconds)
            storage.write_replacing(folder.output / part, content_of(name, folder.output.name, part))
        if plan.fails == name:
            raise DataError("planned")
        if plan.has_scratch:
            storage.remove_folder(folder.output / "scratch")
        return StageResult()

    return body


def _tune(stage: Stage, folder: StageFolder, plan: Plan) -> None:
    """Steps with checkpoints, the way tuning has them: weights, then what makes them one; older ones go."""
    first = 0
    for place in earlier_steps(folder.earlier_checkpoints):
        if storage.read_bytes(place / "checkpoint.json") is not None:
            first = step_of(place.name) or 0
            break
    for step in range(first + 1, STEPS + 1):
        stage.clock.sleep(plan.seconds)
        written = folder.checkpoints / step_folder(step)
        storage.write_replacing(written / "weights", f"{step} by {folder.output.name}".encode())
        storage.write_replacing(written / "checkpoint.json", b"{}")
        prune(folder.checkpoints, 1, step, earlier=folder.earlier_checkpoints)
