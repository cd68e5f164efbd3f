"""Who is working on something: a file with owner, heartbeat and expiry, taken over when its owner is gone.

A lease saves double work. What is committed is guarded by the exclusive creation of the manifest. Each heartbeat
replaces exactly the bytes of the one before: a holder that was away finds other bytes, or none, is told, and does not
commit. A lease that has vanished was somebody else's meanwhile, who may have removed what its first holder wrote.
"""

import json
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from types import TracebackType
from typing import Any

from behaviorlm.errors import StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.console.screen import screen
from behaviorlm_ray.stages.host import Host, this_host
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


_KINDS: dict[str, Any] = {
    field.name: (float, int) if field.type is float else field.type for field in fields(LeaseRecord)
}


class Lease:
    """A lease that is held: renewed by the host's clock until `release`, or until the process ends.

    Use as a context manager. `lost` becomes set when somebody else took over (this process was away), also if that one
    has ended since.
    """

    def __init__(
        self, path: Location, record: LeaseRecord, content: bytes, seconds: float, host: Host
    ) -> None:
        # A heartbeat that waits longer than the lease lasts helps nobody; the next one tries again.
        self.path = storage.with_patience(path, seconds / HEARTBEATS_PER_LEASE)
        self._patient_path = path
        self.record = record
        self.lost = threading.Event()
        self._content = content
        self._seconds = seconds
        self._now = host.clock.now
        self._is_released = False
        self._stop = host.clock.every(seconds / HEARTBEATS_PER_LEASE, self._renew)

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Stop renewing and remove the file, if it is still ours. Once more, it does nothing."""
        if self._is_released:
            return
        self._is_released = True
        self._stop()
        with suppress(StorageError):  # It then expires by itself; the error of the work itself matters more.
            storage.remove_if(self.path, self._content)

    def check(self) -> None:
        """Raise StorageError if somebody else has taken over: what this process still writes is not used.

        Looks at the file itself: a process that was stopped gets here before its next heartbeat. Also raises if that
        cannot be read: whoever goes on from here removes things.
        """
        if self._is_of_another(storage.read_bytes(self._patient_path)):
            self.lost.set()
        if self.lost.is_set():
            raise StorageError(
                f"{self._lost_message()}; end this one, or run the same command again to wait for the other"
            )

    def _renew(self) -> bool:
        """A heartbeat. Returns whether there is anything to renew."""
        now = self._now()
        record = replace(self.record, heartbeat=now, expires=now + self._seconds)
        content = _encode(record)
        try:
            if storage.replace_if(self.path, content, self._content):
                self.record, self._content = record, content
                return True
            found = storage.read_bytes(self.path)
        except StorageError:
            return True  # A full disk or a hiccup: the next heartbeat may succeed before the lease ends.
        if found is None or self._is_of_another(found):
            self.lost.set()
            screen().says(f"{self._lost_message()}; what this one still writes is not used")
            return False
        self._content = found  # A heartbeat of ours whose success we were never told of.
        return True

    def _is_of_another(self, content: bytes | None) -> bool:
        theirs = decode_record(content or b"")
        return theirs is None or theirs.owner != self.record.owner

    def _lost_message(self) -> str:
        return (
            f"{self.path}: this process did not renew its lease in time and another one took over (or somebody removed "
            "that file)"
        )


class LeaseSeeker:
    """Tries to get one lease, again and again if need be; remembers what it saw to judge a silent owner.

    An owner is gone if it ran on this machine and its process has ended, or if the lease has expired by the
    clock *and* was not renewed while we watched for two heartbeats (so clocks that disagree steal nothing).
    """

    def __init__(self, path: str | Location, seconds: float, host: Host | None = None) -> None:
        self.path = storage.location(path) if isinstance(path, str) else path
        self.seconds = seconds
        self.host = host or this_host()
        self._seen: bytes | None = None
        self._seen_at = 0.0

    def try_acquire(self) -> Lease | LeaseRecord:
        """The lease, if it was free or its owner is gone; otherwise who holds it. Raises StorageError."""
        while True:
            # Each time: what was offered once may be there late, have expired, and have been watched for long.
            record = self._new_record()
            content = _encode(record)
            current = storage.read_bytes(self.path)
            if current is None:
                if storage.write_exclusive(self.path, content):
                    return Lease(self.path, record, content, self.seconds, self.host)
                continue
            holder = decode_record(current)
            if holder is not None and not self._is_gone(holder, current):
                return holder
            if storage.replace_if(self.path, content, current):
                return Lease(self.path, record, content, self.seconds, self.host)

    def _new_record(self) -> LeaseRecord:
        host, now = self.host, self.host.clock.now()
        return LeaseRecord(
            owner=host.new_name(),
            machine=host.machine,
            process=host.process,
            process_started=host.start_of(host.process),
            acquired=now,
            heartbeat=now,
            expires=now + self.seconds,
        )

    def _is_gone(self, holder: LeaseRecord, content: bytes) -> bool:
        host, clock = self.host, self.host.clock
        if holder.machine == host.machine and host.start_of(holder.process) != holder.process_started:
            return True
        if content != self._seen:
            self._seen, self._seen_at = content, clock.monotonic()
        watched = clock.monotonic() - self._seen_at
        return clock.now() > holder.expires and watched > 2 * self.seconds / HEARTBEATS_PER_LEASE


def decode_record(content: bytes) -> LeaseRecord | None:
    """Read the content of a lease file; None if it is damaged, which makes the lease free."""
    try:
        record = LeaseRecord(**json.loads(content))
    except (ValueError, TypeError):
        return None
    return record if all(isinstance(value, _KINDS[name]) for name, value in vars(record).items()) else None


def _encode(record: LeaseRecord) -> bytes:
    return json.dumps(vars(record), sort_keys=True).encode()
