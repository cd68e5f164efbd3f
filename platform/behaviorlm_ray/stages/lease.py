"""Who is working on something: a file with owner, heartbeat and expiry, taken over when its owner is gone.

A lease saves double work. What is committed is guarded by the exclusive creation of the manifest; a holder that was
away is told, and does not commit while somebody else is at work.
"""

import json
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType

from behaviorlm.errors import StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.storage import Location

HEARTBEATS_PER_LEASE = 4


@dataclass(frozen=True)
class LeaseRecord:
    """The content of a lease file. Times are seconds since the epoch by the owner's clock."""

    owner: str
    machine: str
    process: int
    process_started: str
    acquired: float
    heartbeat: float
    expires: float

    def describe(self) -> str:
        """One line for people: who holds the lease and since when."""
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.acquired))
        return f"process {self.process} on {self.machine.partition('/')[0]} (since {since})"


class Lease:
    """A lease that is held: renewed by a thread until `release`, or until the process ends.

    Use as a context manager. `lost` becomes set when somebody else took over (this process was away).
    """

    def __init__(self, path: Location, record: LeaseRecord, content: bytes, seconds: float) -> None:
        # A heartbeat that waits longer than the lease lasts helps nobody; the next one tries again.
        self.path = storage.with_patience(path, seconds / HEARTBEATS_PER_LEASE)
        self.record = record
        self.lost = threading.Event()
        self._content = content
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_released, name=f"lease {path}", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Stop renewing and remove the file, if it is still ours."""
        self._stop.set()
        self._thread.join()
        with suppress(StorageError):  # It then expires by itself; the error of the work itself matters more.
            storage.remove_if(self.path, self._content)

    def check(self) -> None:
        """Raise StorageError if somebody else has taken over: what this process still writes is not used.

        Looks at the file itself: a process that was stopped gets here before its next heartbeat.
        """
        with suppress(StorageError):  # While the storage cannot be read, the last heartbeat counts.
            found = storage.read_bytes(self.path)
            if found is not None and self._is_of_another(found):
                self.lost.set()
        if self.lost.is_set():
            raise StorageError(
                f"{self.path}: this process did not renew its lease in time and another one took over; "
                "end this one, or run the same command again to wait for the other"
            )

    def _renew_until_released(self) -> None:
        while not self._stop.wait(self._seconds / HEARTBEATS_PER_LEASE):
            now = time.time()
            record = replace(self.record, heartbeat=now, expires=now + self._seconds)
            content = _encode(record)
            try:
                if storage.replace_if(self.path, content, self._content):
                    self.record, self._content = record, content
                    continue
                found = storage.read_bytes(self.path)
                if found is None:  # Removed by hand, or given back by who had taken over: free.
                    if storage.write_exclusive(self.path, content):
                        self.record, self._content = record, content
                    continue
            except StorageError:
                continue  # A full disk or a hiccup: the next heartbeat may succeed before the lease ends.
            if self._is_of_another(found):
                self.lost.set()
                print(
                    f"{self.path}: this process did not renew its lease in time and another one took over; "
                    "what this one still writes is not used",
                    flush=True,
                )
                return
            self._content = found  # A heartbeat of ours whose success we were never told of.

    def _is_of_another(self, content: bytes) -> bool:
        theirs = decode_record(content)
        return theirs is None or theirs.owner != self.record.owner


class LeaseSeeker:
    """Tries to get one lease, again and again if need be; remembers what it saw to judge a silent owner.

    An owner is gone if it ran on this machine and its process has ended, or if the lease has expired by the
    clock *and* was not renewed while we watched for two heartbeats (so clocks that disagree steal nothing).
    """

    def __init__(self, path: str | Location, seconds: float) -> None:
        self.path = storage.location(path) if isinstance(path, str) else path
        self.seconds = seconds
        self._seen: bytes | None = None
        self._seen_at = 0.0

    def try_acquire(self) -> Lease | LeaseRecord:
        """The lease, if it was free or its owner is gone; otherwise who holds it. Raises StorageError."""
        record = _new_record(self.seconds)
        content = _encode(record)
        while True:
            current = storage.read_bytes(self.path)
            if current is None:
                if storage.write_exclusive(self.path, content):
                    return Lease(self.path, record, content, self.seconds)
                continue
            holder = decode_record(current)
            if holder is not None and not self._is_gone(holder, current):
                return holder
            if storage.replace_if(self.path, content, current):
                return Lease(self.path, record, content, self.seconds)

    def _is_gone(self, holder: LeaseRecord, content: bytes) -> bool:
        if holder.machine == machine_identity() and process_start(holder.process) != holder.process_started:
            return True
        if content != self._seen:
            self._seen, self._seen_at = content, time.monotonic()
        watched = time.monotonic() - self._seen_at
        return time.time() > holder.expires and watched > 2 * self.seconds / HEARTBEATS_PER_LEASE


def decode_record(content: bytes) -> LeaseRecord | None:
    """Read the content of a lease file; None if it is damaged, which makes the lease free."""
    try:
        return LeaseRecord(**json.loads(content))
    except (ValueError, TypeError):
        return None


def machine_identity() -> str:
    """Names the machine, its boot and its process numbering: equal only where a process id means the same."""
    boot = _text_of("/proc/sys/kernel/random/boot_id")
    try:
        numbering = os.readlink("/proc/self/ns/pid")
    except OSError:
        numbering = ""
    return f"{socket.gethostname()}/{boot}/{numbering}"


def process_start(process: int) -> str:
    """When a process started, in the system's own ticks; tells a process from a later one of the same number.

    Empty if there is no such process, or only a dead one that nobody has waited for; "running" where the
    system does not say.
    """
    if os.path.exists("/proc/self/stat"):
        # The name of the program, in parentheses, may hold spaces: count the fields after it.
        fields = _text_of(f"/proc/{process}/stat").rpartition(")")[2].split()
        return fields[19] if fields and fields[0] not in "ZX" else ""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "running"


def _new_record(seconds: float) -> LeaseRecord:
    now = time.time()
    return LeaseRecord(
        owner=uuid.uuid4().hex,
        machine=machine_identity(),
        process=os.getpid(),
        process_started=process_start(os.getpid()),
        acquired=now,
        heartbeat=now,
        expires=now + seconds,
    )


def _encode(record: LeaseRecord) -> bytes:
    return json.dumps(asdict(record), sort_keys=True).encode()


def _text_of(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
