"""Leases: one holder at a time, renewed while it works, taken over when its process is gone or silent."""

import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace

import pytest

from behaviorlm.errors import StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.stages import lease as leases
from behaviorlm_ray.stages.lease import Lease, LeaseRecord, LeaseSeeker
from behaviorlm_ray.storage import Location

DEADLINE_SECONDS = 60.0


def acquire(path: Location, seconds: float = 60.0) -> Lease:
    held = LeaseSeeker(path, seconds).try_acquire()
    assert isinstance(held, Lease)
    return held


def record_of(path: Location) -> LeaseRecord:
    record = leases.decode_record(storage.read_bytes(path) or b"")
    assert record is not None
    return record


def write_record(path: Location, record: LeaseRecord) -> None:
    storage.write_replacing(path, json.dumps(asdict(record)).encode())


def seek_until_held(path: Location, seconds: float) -> Lease:
    seeker, begun = LeaseSeeker(path, seconds), time.monotonic()
    while time.monotonic() - begun < DEADLINE_SECONDS:
        held = seeker.try_acquire()
        if isinstance(held, Lease):
            return held
    raise AssertionError("never acquired")


def test_a_lease_has_one_holder_and_is_free_after_release(root: Location) -> None:
    path = root / "lease.json"
    with acquire(path) as held:
        other = LeaseSeeker(path, 60.0).try_acquire()
        assert isinstance(other, LeaseRecord)
        assert other.owner == held.record.owner
        assert f"process {held.record.process} on" in other.describe()
    assert storage.read_bytes(path) is None
    acquire(path).release()


def test_of_many_seekers_one_gets_a_free_lease(root: Location) -> None:
    found: list[Lease | LeaseRecord] = []
    threads = [
        threading.Thread(target=lambda: found.append(LeaseSeeker(root / "lease.json", 60.0).try_acquire()))
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = [entry for entry in found if isinstance(entry, Lease)]
    assert len(found) == 16
    assert len(held) == 1
    held[0].release()


def test_a_holder_renews_its_lease(root: Location) -> None:
    path = root / "lease.json"
    with acquire(path, seconds=0.4) as held:
        first, begun = record_of(path), time.monotonic()
        while record_of(path).heartbeat == first.heartbeat:
            assert time.monotonic() - begun < DEADLINE_SECONDS
        assert record_of(path).expires > first.expires
        assert record_of(path).owner == first.owner
        held.check()


def test_the_lease_of_an_ended_process_is_taken_over_at_once(root: Location) -> None:
    path = root / "lease.json"
    script = (
        "import os, sys\n"
        "from behaviorlm_ray.stages.lease import LeaseSeeker\n"
        "LeaseSeeker(sys.argv[1], 100_000.0).try_acquire()\n"
        "os._exit(9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    abandoned = record_of(path)
    assert abandoned.expires > time.time() + 90_000
    with acquire(path) as held:
        assert held.record.owner != abandoned.owner


def test_the_number_of_an_ended_process_given_to_another_one_does_not_hold_the_lease(root: Location) -> None:
    path = root / "lease.json"
    with acquire(path) as held:
        same_number = replace(held.record, process_started="1")
    write_record(path, same_number)
    acquire(path).release()


def test_a_silent_holder_on_another_machine_is_taken_over_only_after_expiry_and_watching(
    root: Location,
) -> None:
    path = root / "lease.json"
    with acquire(path) as held:
        elsewhere = replace(held.record, machine="elsewhere", expires=time.time() + 100_000)
    write_record(path, elsewhere)
    assert isinstance(LeaseSeeker(path, 0.1).try_acquire(), LeaseRecord)
    write_record(path, replace(elsewhere, expires=time.time() - 1.0))
    first_look = LeaseSeeker(path, 60.0).try_acquire()
    assert isinstance(first_look, LeaseRecord), (
        "an expired lease may belong to a machine whose clock is behind"
    )
    seek_until_held(path, 0.1).release()


def test_a_holder_that_lost_its_lease_is_told_and_leaves_the_new_one_alone(root: Location) -> None:
    path = root / "lease.json"
    held = acquire(path, seconds=0.4)
    theirs = replace(held.record, owner="somebody else", machine="elsewhere", expires=time.time() + 100)
    # Replacing the file between two heartbeats may lose to the heartbeat itself; in the end it stays.
    begun = time.monotonic()
    while not held.lost.is_set():
        write_record(path, theirs)
        assert time.monotonic() - begun < DEADLINE_SECONDS
    with pytest.raises(StorageError, match="another one took over"):
        held.check()
    held.release()
    assert record_of(path).owner == "somebody else"


def test_a_holder_that_was_stopped_is_told_before_its_next_heartbeat(root: Location) -> None:
    path = root / "lease.json"
    held = acquire(path, seconds=10_000.0)
    held.check()
    write_record(path, replace(held.record, owner="somebody else", machine="elsewhere"))
    with pytest.raises(StorageError, match="another one took over"):
        held.check()
    held.release()
    assert record_of(path).owner == "somebody else"


def test_a_lease_that_was_removed_is_not_lost_but_taken_back(root: Location) -> None:
    path = root / "lease.json"
    with acquire(path, seconds=0.4) as held:
        begun = time.monotonic()
        while not storage.remove_if(path, storage.read_bytes(path) or b""):
            assert time.monotonic() - begun < DEADLINE_SECONDS
        while storage.read_bytes(path) is None:
            assert time.monotonic() - begun < DEADLINE_SECONDS
        held.check()
        assert record_of(path).owner == held.record.owner
    assert storage.read_bytes(path) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"owner": "x"}', b"\xff\xfe", b"null"])
def test_a_damaged_lease_is_free(root: Location, content: bytes) -> None:
    path = root / "lease.json"
    storage.write_replacing(path, content)
    acquire(path).release()
    assert storage.read_bytes(path) is None


def test_a_process_that_ended_has_no_start() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert leases.process_start(ended.pid) == ""
