"""A clock that passes only when somebody sleeps, and a storage in memory by it: hours of work in milliseconds."""

import hashlib
import heapq
import itertools
import tempfile
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from behaviorlm.errors import StorageError
from behaviorlm.files.patient_reads import repeat_patiently
from behaviorlm_ray.stages.host import Host
from behaviorlm_ray.storage import FileDigest, store_of

LONGEST_RUN_SECONDS = 5000.0


class VirtualClock:
    """State: the time, and what is to happen at which. Of one thread, or of processes by turns (`run`)."""

    def __init__(self) -> None:
        self.time = 1_800_000_000.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._turn: _Process | None = None
        self._alone = threading.RLock()  # Arrow reads in threads of its own, which sleep by this clock, too

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time - 1_799_000_000.0

    def sleep(self, seconds: float) -> None:
        until = self.time + seconds
        if self._turn is not None:
            self.after(seconds, self._turn.resume)
            self._turn.pause()
            return
        with self._alone:
            while self._due and self._due[0][0] <= until:
                self._next()
            self.time = max(self.time, until)

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Let something happen; it may sleep itself."""
        heapq.heappush(self._due, (self.time + seconds, next(self._order), action))

    def every(self, seconds: float, work: Callable[[], bool]) -> Callable[[], None]:
        stopped = threading.Event()

        def run() -> None:
            if not stopped.is_set() and work():
                self.after(seconds, run)

        self.after(seconds, run)
        return stopped.set

    def kill(self) -> None:
        """Whatever runs by this clock never does again, as after the end of its process."""
        self._due.clear()

    def run(self, *works: Callable[[], Any]) -> list[Any]:
        """Processes that begin at once and take turns where they sleep. Returns their results or errors.

        They run in threads, of which one at a time is awake: the order is the same each time.
        """
        processes = [_Process(self, work) for work in works]
        for process in processes:
            self.after(0, process.resume)
        begun = self.time
        while not all(process.has_ended for process in processes):
            self._next()
            assert self.time - begun < LONGEST_RUN_SECONDS, "they wait for ever"
        return [process.result for process in processes]

    def _next(self) -> None:
        time, _, action = heapq.heappop(self._due)
        self.time = max(self.time, time)
        action()


class _Process:
    def __init__(self, clock: VirtualClock, work: Callable[[], Any]) -> None:
        self.clock, self.work = clock, work
        self.result: Any = None
        self.has_ended = False
        self._go, self._paused = threading.Semaphore(0), threading.Semaphore(0)
        threading.Thread(target=self._run, daemon=True).start()

    def resume(self) -> None:
        before, self.clock._turn = self.clock._turn, self
        self._go.release()
        self._paused.acquire()
        self.clock._turn = before

    def pause(self) -> None:
        self._paused.release()
        self._go.acquire()

    def _run(self) -> None:
        self._go.acquire()
        try:
            self.result = self.work()
        except BaseException as error:
            self.result = error
        self.has_ended = True
        self._paused.release()


def host(clock: VirtualClock, machine: str = "here", process: int = 1) -> Host:
    """A process that lives as long as anybody asks. Names are counted, by machine and process."""
    numbers = itertools.count()
    return Host(
        clock, machine, process, lambda number: "then", lambda: f"{machine}-{process}-{next(numbers):04d}"
    )


@dataclass(frozen=True)
class MemoryLocation:
    """A place in a MemoryStore."""

    store: "MemoryStore" = field(compare=False, repr=False)
    key: str
    patience_seconds: float = field(default=180.0, compare=False, repr=False)

    def __str__(self) -> str:
        return f"memory://{self.key}"

    def __truediv__(self, relative: str, /) -> "MemoryLocation":
        return replace(self, key=f"{self.key}/{relative}".lstrip("/"))

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> "MemoryLocation":
        return replace(self, key=self.key.rpartition("/")[0])

    @property
    def parents(self) -> list["MemoryLocation"]:
        return [self.parent, *self.parent.parents] if self.key else []


class MemoryStore:
    """A storage by a virtual clock. `files` may be shared with other stores, which are then other ways to the same.

    Until `down_until` it serves nothing; the next `losses` changes take effect and are then told as failed.
    """

    def __init__(self, clock: VirtualClock, files: dict[str, bytes] | None = None) -> None:
        self.clock = clock
        self.files = {} if files is None else files
        self.down_until = 0.0
        self.losses = 0

    @property
    def root(self) -> MemoryLocation:
        return MemoryLocation(self, "root")

    def go_down(self, seconds: float) -> None:
        self.down_until = self.clock.time + seconds

    def read_bytes(self, place: MemoryLocation) -> bytes | None:
        return self._served(place, lambda: self.files.get(place.key))

    def write_exclusive(self, place: MemoryLocation, content: bytes) -> bool:
        return self._changed(place, None, content)

    def write_replacing(self, place: MemoryLocation, content: bytes) -> None:
        self._served(place, lambda: self.files.update({place.key: content}))

    def replace_if(self, place: MemoryLocation, content: bytes, expected: bytes) -> bool:
        return self._changed(place, expected, content)

    def remove_if(self, place: MemoryLocation, expected: bytes) -> bool:
        return self._changed(place, expected, None)

    def hash_file(self, place: MemoryLocation) -> FileDigest:
        content = self.read_bytes(place)
        if content is None:
            raise StorageError(f"cannot read {place}")
        return FileDigest(len(content), hashlib.sha256(content).hexdigest())

    def hash_files(self, folder: MemoryLocation, relative_paths: Iterable[str]) -> dict[str, FileDigest]:
        return {path: self.hash_file(folder / path) for path in relative_paths}

    def describe_folder(self, folder: MemoryLocation) -> dict[str, FileDigest]:
        return self.hash_files(folder, self.list_files(folder))

    def sizes(self, folder: MemoryLocation, relative_paths: Iterable[str]) -> dict[str, int]:
        found = {path: self.read_bytes(folder / path) for path in relative_paths}
        return {path: len(content) for path, content in found.items() if content is not None}

    def list_files(self, folder: MemoryLocation) -> list[str]:
        prefix = f"{folder.key}/"
        return self._served(
            folder, lambda: sorted(key.removeprefix(prefix) for key in self.files if key.startswith(prefix))
        )

    def list_folders(self, folder: MemoryLocation) -> list[str]:
        return sorted({path.partition("/")[0] for path in self.list_files(folder) if "/" in path})

    def make_folder(self, folder: MemoryLocation) -> None:
        pass

    def remove_folder(self, folder: MemoryLocation, kept: Collection[str] = ()) -> None:
        for path in self.list_files(folder):
            if path not in kept:
                del self.files[(folder / path).key]

    @contextmanager
    def writing(self, folder: MemoryLocation) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)
            for path in sorted(Path(name).rglob("*")):
                if path.is_file():
                    self.write_replacing(folder / path.relative_to(name).as_posix(), path.read_bytes())

    @contextmanager
    def writing_file(self, place: MemoryLocation) -> Iterator[Path]:
        with self.writing(place.parent) as folder:
            yield folder / place.name

    def local_copy(self, place: MemoryLocation) -> Path:
        raise NotImplementedError

    def with_patience(self, place: MemoryLocation, seconds: float) -> MemoryLocation:
        return replace(place, patience_seconds=seconds)

    def with_digests(self, place: MemoryLocation, digests: Mapping[str, FileDigest]) -> MemoryLocation:
        return place

    def check_root(self, root: MemoryLocation, *, is_written: bool) -> None:
        self.list_files(root)

    def _changed(self, place: MemoryLocation, expected: bytes | None, content: bytes | None) -> bool:
        def change() -> bool:
            if self.files.get(place.key) != expected:
                return False
            if content is None:
                del self.files[place.key]
            else:
                self.files[place.key] = content
            if self.losses:
                self.losses -= 1
                raise StorageError(f"cannot write {place}: the answer was lost")
            return True

        return self._served(place, change)

    def _served(self, place: MemoryLocation, operation: Callable[[], Any]) -> Any:
        def attempt(_: int) -> Any:
            if self.clock.time < self.down_until:
                raise ConnectionError("down")
            return operation()

        def judge(error: Exception, repeats: int, is_over: bool) -> str:
            if not isinstance(error, ConnectionError):
                raise error
            if is_over:
                raise StorageError(
                    f"cannot serve {place}: down for {place.patience_seconds:.0f} s"
                ) from error
            return f"storage: cannot serve {place} now"

        return repeat_patiently(attempt, judge, place.patience_seconds, self.clock)


store_of.register(MemoryLocation, lambda place: place.store)
