"""Leases: one holder at a time, renewed while it works, taken over when its process is gone or silent.

Most run by a virtual clock, some of them also on real storages. Threads and the clock of the machine are real in
`test_of_many_seekers_one_gets_a_free_lease` and `test_a_holder_renews_its_lease`.
"""

import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace

import pytest

from behaviorlm.errors import StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.stages.host import Host, process_start
from behaviorlm_ray.stages.lease import Lease, LeaseRecord, LeaseSeeker, decode_record
from behaviorlm_ray.storage import Location
from tests.platform.stages.simulation import MemoryStore, VirtualClock, host

DEADLINE_SECONDS = 60.0


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def acquire(path: Location, seconds: float = 60.0, by: Host | None = None) -> Lease:
    held = LeaseSeeker(path, seconds, by).try_acquire()
    assert isinstance(held, Lease)
    return held


def record_of(path: Location) -> LeaseRecord:
    record = decode_record(storage.read_bytes(path) or b"")
    assert record is not None
    return record


def write_record(path: Location, record: LeaseRecord) -> None:
    storage.write_replacing(path, json.dumps(asdict(record)).encode())


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
    """By the real clock and in a real thread, for that these work is what is tested."""
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
    root: Location, clock: VirtualClock
) -> None:
    path = root / "lease.json"
    acquire(path, 60.0, host(clock, "elsewhere"))
    clock.kill()
    seeker = LeaseSeeker(path, 60.0, host(clock))
    clock.sleep(59.0)
    assert isinstance(seeker.try_acquire(), LeaseRecord)
    late = LeaseSeeker(path, 60.0, host(clock))
    clock.sleep(40.0)
    assert isinstance(late.try_acquire(), LeaseRecord), (
        "an expired lease may belong to a machine whose clock is behind"
    )
    clock.sleep(30.0)
    assert isinstance(late.try_acquire(), LeaseRecord)
    clock.sleep(0.5)
    assert isinstance(late.try_acquire(), Lease)


def test_a_holder_whose_clock_is_far_behind_keeps_what_it_renews(clock: VirtualClock) -> None:
    path = MemoryStore(clock).root / "lease.json"
    theirs = acquire(path, 60.0, host(clock, "elsewhere"))
    theirs._now = lambda: clock.now() - 10_000
    seeker = LeaseSeeker(path, 60.0, host(clock))
    for _ in range(1000):
        clock.sleep(7.0)
        assert isinstance(seeker.try_acquire(), LeaseRecord)
    theirs.check()


def test_the_process_of_this_machine_that_is_gone_is_not_waited_for(clock: VirtualClock) -> None:
    path = MemoryStore(clock).root / "lease.json"
    acquire(path, 60.0, host(clock, process=1))
    here = host(clock, process=2)
    assert isinstance(LeaseSeeker(path, 60.0, here).try_acquire(), LeaseRecord)
    gone = replace(here, start_of=lambda process: "" if process == 1 else "then")
    assert isinstance(LeaseSeeker(path, 60.0, gone).try_acquire(), Lease)


def test_a_holder_that_lost_its_lease_is_told_and_leaves_the_new_one_alone(
    root: Location, clock: VirtualClock
) -> None:
    path = root / "lease.json"
    held = acquire(path, 60.0, host(clock))
    clock.sleep(20.0)
    write_record(path, replace(held.record, owner="somebody else", machine="elsewhere"))
    assert not held.lost.is_set()
    clock.sleep(15.0)
    assert held.lost.is_set()
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


def test_a_lease_that_has_vanished_is_lost(root: Location, clock: VirtualClock) -> None:
    """Who had taken it over may have ended since, and have removed what this process wrote before."""
    path = root / "lease.json"
    with acquire(path, 60.0, host(clock)) as held:
        assert storage.remove_if(path, storage.read_bytes(path) or b"")
        with pytest.raises(StorageError, match="another one took over"):
            held.check()
    with acquire(path, 60.0, host(clock)) as held:
        assert storage.remove_if(path, storage.read_bytes(path) or b"")
        clock.sleep(16.0)
        assert held.lost.is_set()
    assert storage.read_bytes(path) is None


def test_a_holder_that_cannot_reach_the_storage_is_overtaken_and_told(clock: VirtualClock) -> None:
    """Two ways to the same files, of which the holder's is cut for longer than its lease lasts."""
    theirs, ours = (store := MemoryStore(clock)), MemoryStore(clock, store.files)
    held = acquire(theirs.root / "lease.json", 60.0, host(clock, "elsewhere"))
    theirs.go_down(200.0)
    seeker, begun = LeaseSeeker(ours.root / "lease.json", 60.0, host(clock)), clock.time
    while isinstance(taken := seeker.try_acquire(), LeaseRecord):
        clock.sleep(1.0)
    assert 60.0 < clock.time - begun < 75.0
    clock.sleep(300.0)
    assert held.lost.is_set()
    held.release()
    taken.check()
    taken.release()
    assert ours.files == {}


def test_an_outage_shorter_than_the_lease_loses_nothing(clock: VirtualClock) -> None:
    store = MemoryStore(clock)
    held = acquire(store.root / "lease.json", 60.0, host(clock, "elsewhere"))
    clock.sleep(14.0)
    store.go_down(55.0)
    clock.sleep(100.0)
    held.check()
    assert not held.lost.is_set() and record_of(held.path).expires > clock.time


def test_heartbeats_whose_answers_are_lost_are_known_again(clock: VirtualClock) -> None:
    store = MemoryStore(clock)
    held = acquire(store.root / "lease.json", 60.0, host(clock))
    store.losses = 3
    clock.sleep(1000.0)
    held.check()
    assert not store.losses and record_of(held.path).expires > clock.time
    held.release()
    assert store.files == {}


WHOLE = LeaseRecord("x", "elsewhere", 1, "then", 0.0, 0.0, 4e9)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b'{"owner": "x"}', b"\xff\xfe", b"null"),
        *(
            json.dumps(asdict(WHOLE) | changed).encode()
            for changed in ({"expires": "soon"}, {"acquired": None}, {"machine": 7}, {"process": 1.5})
        ),
    ],
)
def test_a_damaged_lease_is_free(root: Location, content: bytes) -> None:
    path = root / "lease.json"
    storage.write_replacing(path, content)
    acquire(path).release()
    assert storage.read_bytes(path) is None


def test_a_process_that_ended_has_no_start() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert process_start(ended.pid) == ""
