"""Groups of stages, takeover and outages, by a virtual clock and mostly on a storage in memory."""

import json
from collections.abc import Callable, Sequence
from functools import partial

import pytest

from behaviorlm.errors import BehaviorLMError, DataError, StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.stages.attempts import StageFolder, StageResult
from behaviorlm_ray.stages.finding import StageOutput
from behaviorlm_ray.stages.running import StageCall, run_group
from behaviorlm_ray.storage import Location
from tests.platform.stages.simulation import MemoryStore, VirtualClock, host

Body = Callable[[StageFolder], StageResult]


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def store(clock: VirtualClock) -> MemoryStore:
    return MemoryStore(clock)


def write(folder: StageFolder, ran: list[str] | None = None) -> StageResult:
    storage.write_replacing(folder.output / "file", folder.stage.encode())
    if ran is not None:
        ran.append(folder.stage.partition("-")[0])
    return StageResult(rows={"files": 1})


def fail(folder: StageFolder, error: BaseException) -> StageResult:
    write(folder)
    raise error


def call(name: str, body: Body = write) -> StageCall:
    return StageCall(name, 1, {}, {}, body)


def names(outputs: Sequence[StageOutput]) -> list[str]:
    return [output.manifest.stage for output in outputs]


def left(root: Location, name: str) -> list[str]:
    """Which files of this name lie in which stage."""
    return [
        path.split("/")[1].partition("-")[0]
        for path in storage.list_files(root)
        if path.rpartition("/")[2] == name
    ]


def test_a_group_runs_what_is_not_finished_and_returns_all_in_the_order_asked(root: Location) -> None:
    ran: list[str] = []
    body = partial(write, ran=ran)
    run_group(root, [call("b", body)])
    calls = [call("c", body), call("a", body), call("b", body), call("a", body)]
    outputs = run_group(root, calls)
    assert names(outputs) == ["c", "a", "b", "a"]
    assert [output.reused for output in outputs] == [False, False, True, False]
    assert ran == ["b", "c", "a"]
    for output in outputs:
        assert storage.read_text(output.folder / "file") == output.folder.parents[1].name
    assert all(output.reused for output in run_group(root, calls))
    assert ran == ["b", "c", "a"]
    assert left(root, "lease.json") == []


def test_what_ended_is_committed_though_another_stage_of_the_group_failed(root: Location) -> None:
    told: list[str] = []
    calls = [
        call("a"),
        call("b", partial(fail, error=DataError("row 7 is bad"))),
        call("c"),
        call("d", partial(fail, error=DataError("row 9 is bad"))),
    ]
    with pytest.raises(DataError, match="row 7 is bad") as raised:
        run_group(root, calls, report=told.append)
    assert told == ["b: failed: row 7 is bad", "d: failed: row 9 is bad"]
    assert "what this attempt wrote is kept in" in raised.value.__notes__[0]
    assert raised.value.__notes__[1] == "another stage of the same group failed, too: row 9 is bad"
    assert left(root, "manifest.json") == ["a", "c"] and left(root, "error.json") == ["b", "d"]
    assert left(root, "lease.json") == []
    again = run_group(root, [call(name) for name in "abcd"], report=told.append)
    assert [output.reused for output in again] == [True, False, True, False]


def test_each_stage_is_committed_and_its_lease_given_back_as_it_ends(store: MemoryStore) -> None:
    def look(folder: StageFolder) -> StageResult:
        assert left(store.root, "manifest.json") == ["a"]
        assert left(store.root, "lease.json") == ["b", "c"]
        return write(folder)

    run_group(store.root, [call("a"), call("b", look), call("c")], host=host(store.clock))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_an_interruption_ends_the_group_and_keeps_what_had_begun(
    store: MemoryStore, error: BaseException
) -> None:
    calls = [call("a"), call("b", partial(fail, error=error)), call("c")]
    with pytest.raises(type(error)):
        run_group(store.root, calls, host=host(store.clock))
    assert left(store.root, "file") == ["a", "b"]
    assert left(store.root, "error.json") == ["b"]
    assert left(store.root, "lease.json") == []
    assert len(run_group(store.root, calls[::2], host=host(store.clock))) == 2


def lasting(clock: VirtualClock, seconds: float, ran: list[str]) -> Body:
    def body(folder: StageFolder) -> StageResult:
        clock.sleep(seconds)
        return write(folder, ran)

    return body


def test_processes_with_overlapping_groups_do_not_wait_for_each_other_in_a_circle(
    store: MemoryStore, clock: VirtualClock
) -> None:
    """Each process sleeps after its first lease is got: without an order both would then wait for ever."""
    ran: list[str] = []
    body = lasting(clock, 50.0, ran)
    slow_requests = store.write_exclusive

    def write_slowly(place: Location, content: bytes) -> bool:
        written = slow_requests(place, content)  # type: ignore[arg-type]
        clock.sleep(1.0)
        return written

    store.write_exclusive = write_slowly  # type: ignore[method-assign]

    def process(number: int, asked: str) -> list[StageOutput]:
        calls = [call(name, body) for name in asked]
        return run_group(
            store.root, calls, host=host(clock, "here", number), report=lambda line: told.append(line)
        )

    told: list[str] = []
    found = clock.run(
        partial(process, 1, "abc"),
        partial(process, 2, "cba"),
        partial(process, 3, "bc"),
        partial(process, 4, "ca"),
    )
    assert [names(outputs) for outputs in found] == [list("abc"), list("cba"), list("bc"), list("ca")]
    assert sorted(ran) == ["a", "b", "c"]
    assert any("waiting for it" in line for line in told)
    assert left(store.root, "lease.json") == []


def test_a_waiting_process_uses_what_the_other_one_committed(store: MemoryStore, clock: VirtualClock) -> None:
    ran: list[str] = []
    calls = [call("a", lasting(clock, 3600.0, ran))]
    told: list[str] = []
    begun = clock.time
    first, second = clock.run(
        lambda: run_group(store.root, calls, host=host(clock, "here", 1)),
        lambda: run_group(store.root, calls, host=host(clock, "there", 2), report=told.append),
    )
    assert ran == ["a"] and first[0].manifest == second[0].manifest
    assert (first[0].reused, second[0].reused) == (False, True)
    assert "being run by process 1 on here" in told[0]
    assert told[1:] == ["a: finished by another process, whose output is used"]
    assert 3600.0 <= clock.time - begun < 3602.0
    assert first[0].manifest.duration_seconds == 3600.0


def test_a_stage_is_taken_over_from_a_machine_that_is_gone_and_cleaned_up(
    store: MemoryStore, clock: VirtualClock
) -> None:
    class Gone(BaseException):
        pass

    def cut_short(folder: StageFolder) -> StageResult:
        storage.write_replacing(folder.checkpoints / "step_1", b"state")
        storage.write_replacing(folder.output / "scratch" / "part", b"copy")
        storage.write_replacing(folder.output / "half", b"half")
        clock.kill()
        kept.update(store.files)
        raise Gone

    def whole(folder: StageFolder) -> StageResult:
        [checkpoints] = folder.earlier_checkpoints
        assert storage.read_text(checkpoints / "step_1") == "state"
        [earlier] = folder.earlier
        assert storage.list_files(earlier) == ["half", "removed.txt"]
        return write(folder)

    kept: dict[str, bytes] = {}
    with pytest.raises(Gone):
        run_group(store.root, [call("a", cut_short)], host=host(clock, "elsewhere"))
    store.files.clear()
    store.files.update(kept)  # what a machine leaves behind that loses its power
    told: list[str] = []
    begun = clock.time
    [output] = run_group(store.root, [call("a", whole)], host=host(clock), report=told.append)
    assert 60.0 < clock.time - begun < 65.0
    assert not output.reused and "being run by process 1 on elsewhere" in told[0]
    assert left(store.root, "half") == left(store.root, "step_1") == left(store.root, "lease.json") == []
    assert left(store.root, "removed.txt") == ["a"]


def test_a_full_minute_of_outage_is_survived_with_the_default_patience(
    store: MemoryStore, clock: VirtualClock
) -> None:
    def body(folder: StageFolder) -> StageResult:
        store.go_down(60.0)
        return write(folder)

    begun = clock.time
    [output] = run_group(store.root, [call("a", body)], host=host(clock))
    assert clock.time - begun >= 60.0 and not output.reused


def test_an_outage_longer_than_the_patience_fails_the_stage_and_the_next_run_resumes(
    store: MemoryStore, clock: VirtualClock
) -> None:
    def body(folder: StageFolder) -> StageResult:
        if not folder.earlier_checkpoints:
            storage.write_exclusive(folder.checkpoints / "step", b"state")
            store.go_down(1000.0)
        return write(folder)

    begun = clock.time
    with pytest.raises(StorageError, match="down for 180 s"):
        run_group(store.root, [call("a", body)], host=host(clock))
    assert clock.time - begun < 600.0
    clock.sleep(1000.0)
    assert left(store.root, "lease.json") == ["a"]  # could not be given back, and expires
    [output] = run_group(store.root, [call("a", body)], host=host(clock, process=2))
    assert not output.reused and left(store.root, "lease.json") == []


def test_a_process_that_slept_through_its_lease_uses_the_output_of_who_took_over(
    store: MemoryStore, clock: VirtualClock
) -> None:
    winners: list[StageOutput] = []

    def away(folder: StageFolder) -> StageResult:
        clock.kill()
        clock.sleep(500.0)
        winners.extend(run_group(store.root, [call("a")], host=host(clock, "there"), report=print))
        return write(folder)

    [output] = run_group(store.root, [call("a", away)], host=host(clock, "here"), report=print)
    assert output.manifest == winners[0].manifest and output.manifest.attempt.startswith("there")
    assert len(left(store.root, "file")) == 1 and left(store.root, "lease.json") == []


def test_times_in_what_is_kept_are_those_of_the_clock(store: MemoryStore, clock: VirtualClock) -> None:
    clock.time = 0.0
    calls = [call("a"), call("b", partial(fail, error=BehaviorLMError("no")))]
    with pytest.raises(BehaviorLMError):
        run_group(store.root, calls, host=host(clock))
    [output] = run_group(store.root, calls[:1], host=host(clock))
    assert output.manifest.started == "1970-01-01T00:00:00+00:00"
    [error] = [content for key, content in store.files.items() if key.endswith("error.json")]
    assert json.loads(error)["time"] == "1970-01-01T00:00:00+00:00"
