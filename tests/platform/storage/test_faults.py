"""S3 that fails for a while: operations wait and finish, do what was asked once, or stop resumably and say so.

Requests go to a real server through a proxy that breaks them; the pauses between attempts are by a virtual clock,
except where a test says why not.
"""

import subprocess
import sys
import time

import pytest

from behaviorlm.errors import StorageError
from behaviorlm.files import patient_reads
from behaviorlm.files.clock import SYSTEM_CLOCK
from behaviorlm_ray import storage
from behaviorlm_ray.stages.attempts import StageFolder, StageResult
from behaviorlm_ray.stages.lease import Lease, LeaseSeeker
from behaviorlm_ray.stages.running import StageCall, run_group
from behaviorlm_ray.storage import S3Location, s3_access
from tests.platform.s3_faults import FaultyProxy
from tests.platform.single_stage import run_stage
from tests.platform.stages.simulation import VirtualClock, host

CONTENT = b"content " * 5000


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> VirtualClock:
    """By which our pauses are. A connection that hangs is given up soon."""
    clock = VirtualClock()
    monkeypatch.setattr(s3_access, "READ_SECONDS", 0.5)
    monkeypatch.setattr(s3_access, "CLOCK", clock)
    return clock


@pytest.fixture
def only_our_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3, which pauses by the clock of the machine, makes one attempt, so that all others are ours."""
    monkeypatch.setattr(s3_access, "QUICK_ATTEMPTS", 1)


def test_a_stage_is_finished_through_every_kind_of_fault(s3_root: S3Location, proxy: FaultyProxy) -> None:
    """boto3's own attempts and pauses are left to it."""

    def body(folder: StageFolder) -> StageResult:
        with storage.writing(folder.output) as output:
            for number in range(4):
                (output / f"file-{number}").write_bytes(CONTENT + bytes([number]))
        return StageResult()

    faults = ["InternalError", "SlowDown", "RequestTimeout", "reset", "hang", "lost", "cut"]
    for fault in faults:
        proxy.plan(fault, status={"SlowDown": 503, "RequestTimeout": 400}.get(fault, 500))
        proxy.plan("")
    output = run_stage(s3_root, "prepare", 1, {}, {}, body)
    assert proxy.happened == faults
    assert sorted(output.manifest.files) == [f"file-{number}" for number in range(4)]
    assert run_stage(s3_root, "prepare", 1, {}, {}, body).reused
    copy = storage.local_copy(output.folder)
    assert (copy / "file-3").read_bytes() == CONTENT + bytes([3])


@pytest.mark.parametrize("times", [1, 4])
def test_a_write_whose_answer_is_lost_is_not_taken_for_somebody_elses(
    s3_root: S3Location, proxy: FaultyProxy, times: int
) -> None:
    """Repeated, by boto3 first and then by us, the request meets what it wrote itself."""
    proxy.plan("lost", times, method="PUT")
    assert storage.write_exclusive(s3_root / "file", b"ours")
    assert not storage.write_exclusive(s3_root / "file", b"theirs")
    proxy.plan("lost", times, method="PUT")
    assert storage.replace_if(s3_root / "file", b"new", b"ours")
    assert not storage.replace_if(s3_root / "file", b"other", b"ours")
    proxy.plan("lost", times, method="DELETE")
    assert storage.remove_if(s3_root / "file", b"new")
    assert storage.read_bytes(s3_root / "file") is None
    assert proxy.happened == ["lost"] * 3 * times


def test_a_lost_answer_is_not_forgotten_when_the_credentials_expire_then(
    s3_root: S3Location, proxy: FaultyProxy
) -> None:
    proxy.plan("lost", method="PUT")
    proxy.plan("ExpiredToken", status=400, method="PUT")
    assert storage.write_exclusive(s3_root / "file", b"ours")
    assert proxy.happened == ["lost", "ExpiredToken"]


def test_a_lost_race_is_lost_though_the_answer_was_too(s3_root: S3Location, proxy: FaultyProxy) -> None:
    storage.write_exclusive(s3_root / "file", b"theirs")
    proxy.plan("lost", 2, method="PUT")
    assert not storage.write_exclusive(s3_root / "file", b"ours")
    assert storage.read_bytes(s3_root / "file") == b"theirs"


@pytest.mark.usefixtures("only_our_attempts")
@pytest.mark.parametrize("seconds", [2.5, 170.0])
def test_an_outage_is_waited_for(
    s3_root: S3Location,
    proxy: FaultyProxy,
    clock: VirtualClock,
    seconds: float,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patient_reads, "_last_announced", 0.0)
    place = storage.with_patience(s3_root / "file", storage.PATIENCE_SECONDS)
    storage.write_exclusive(place, CONTENT)
    proxy.go_down_by(clock, seconds)
    begun = clock.time
    assert storage.read_bytes(place) == CONTENT
    assert seconds <= clock.time - begun < seconds + s3_access.CONNECT_SECONDS + 8.0
    assert "storage: cannot read s3://" in capsys.readouterr().out
    assert 3 <= proxy.happened.count("down") < 60


@pytest.mark.usefixtures("only_our_attempts")
def test_an_outage_longer_than_the_patience_stops_resumably(
    s3_root: S3Location, proxy: FaultyProxy, clock: VirtualClock
) -> None:
    calls: list[str] = []

    def body(folder: StageFolder) -> StageResult:
        calls.append("ran")
        if len(calls) == 1:
            storage.write_exclusive(folder.checkpoints / "step", b"state")
            proxy.go_down(1000.0)
        checkpoints = [*folder.earlier_checkpoints, folder.checkpoints][0]
        assert storage.read_bytes(checkpoints / "step") == b"state"
        storage.write_exclusive(folder.output / "file", b"x")
        return StageResult()

    call, hurried = StageCall("prepare", 1, {}, {}, body), storage.with_patience(s3_root, 6.0)
    begun = clock.time
    with pytest.raises(
        StorageError, match=r"did not serve the request for 6 s.*resumable.*run the same command"
    ):
        run_group(hurried, [call], lease_seconds=4.0, host=host(clock))
    assert clock.time - begun >= 6.0
    proxy.down_until = 0.0
    told: list[str] = []
    [done] = run_group(hurried, [call], lease_seconds=4.0, host=host(clock, process=2), report=told.append)
    assert not done.reused and calls == ["ran", "ran"]


@pytest.mark.slow
def test_a_full_minute_of_outage_is_survived_with_the_default_patience(
    s3_root: S3Location, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the real clock, in whole and with boto3's attempts: that the parts fit together is what is tested."""
    monkeypatch.setattr(s3_access, "CLOCK", SYSTEM_CLOCK)

    def body(folder: StageFolder) -> StageResult:
        with storage.writing(folder.output) as output:
            (output / "file").write_bytes(CONTENT)
            proxy.go_down(60.0)
        return StageResult()

    begun = time.monotonic()
    root = storage.with_patience(s3_root, storage.PATIENCE_SECONDS)
    output = run_stage(root, "prepare", 1, {}, {}, body)
    assert time.monotonic() - begun >= 60
    assert storage.read_bytes(output.folder / "file") == CONTENT


@pytest.mark.usefixtures("only_our_attempts")
def test_copies_are_fetched_through_faults(s3_root: S3Location, proxy: FaultyProxy) -> None:
    storage.write_exclusive(s3_root / "file", CONTENT)
    proxy.plan("cut", 4, method="GET")
    assert storage.local_copy(s3_root / "file").read_bytes() == CONTENT
    assert proxy.happened == ["cut"] * 4


@pytest.mark.usefixtures("only_our_attempts")
def test_heartbeats_whose_answers_are_lost_do_not_lose_the_lease(
    s3_root: S3Location, proxy: FaultyProxy, clock: VirtualClock
) -> None:
    held = LeaseSeeker(s3_root / "lease.json", 1.0, host(clock)).try_acquire()
    assert isinstance(held, Lease)
    proxy.plan("lost", 7, method="PUT")
    clock.sleep(3.0)
    assert not proxy.planned
    heartbeat = held.record.heartbeat
    clock.sleep(0.5)
    assert held.record.heartbeat > heartbeat
    held.check()
    held.release()
    assert storage.read_bytes(s3_root / "lease.json") is None


HOLDER = """
import sys
from behaviorlm_ray.stages.lease import LeaseSeeker
from behaviorlm_ray.storage import location

held = LeaseSeeker(location(sys.argv[1]), 1.0).try_acquire()
print("held", flush=True)
held.lost.wait(60)
held.release()
print("lost", flush=True)
"""


def test_the_holder_of_a_lease_that_cannot_renew_is_overtaken_and_told(
    s3_root: S3Location, proxy: FaultyProxy, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two real processes by the real clock, each with its own way to the server."""
    monkeypatch.setattr(s3_access, "CLOCK", SYSTEM_CLOCK)
    path = s3_root / "lease.json"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)  # our network works, the holder's does not
        proxy.go_down(1000.0)
        seeker, deadline = LeaseSeeker(path, 1.0), time.monotonic() + 60
        ours = seeker.try_acquire()
        while not isinstance(ours, Lease):
            assert time.monotonic() < deadline
            ours = seeker.try_acquire()
        proxy.down_until = 0.0
        assert holder.stdout.read().endswith("lost\n")
    ours.check()
    ours.release()
    assert storage.read_bytes(path) is None
