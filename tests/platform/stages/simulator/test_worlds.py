"""The commit protocol holds in simulated worlds: drawn from seeds, and every way of two processes with one fault.

A failure names the seed, which `python -m tests.platform.stages.simulator --seed` plays again, or the choices.
"""

import random

import pytest

from tests.platform.stages.simulator.__main__ import show
from tests.platform.stages.simulator.search import Case, Search
from tests.platform.stages.simulator.weather import play

WORLDS, SHARDS = 500, 2
"""Each shard may be another process."""
OUTPUT, DAMAGED = "an output", "a damaged output"

ALWAYS = [
    Case(),
    Case(("crash",)),
    Case(("crash",), machines="aa"),
    Case(("crash",), ("read", "stages"), past=OUTPUT),
    Case((), ("run", "stages"), past="half an attempt"),
    Case(("rot",), ("read", "run"), past=OUTPUT, starts=(0.0, 1.0)),
]
LONG = [
    Case(("loss",)),
    Case(("crash",), has_checkpoints=True),
    Case(("crash",), past=DAMAGED),
    Case(("crash",), ("run", "attempts"), past=DAMAGED),
    Case(("pause",)),
    Case(("pause",), machines="aa"),
    Case(("pause",), has_checkpoints=True),
    Case(("pause",), ("run", "fail"), has_scratch=True),
    Case(("pause",), past=DAMAGED),
    Case(("pause",), ("read", "stages"), past=OUTPUT),
    Case(("pause",), ("read", "attempts"), past=OUTPUT),
    Case(("pause",), ("run", "attempts"), past=DAMAGED),
    Case(("pause",), ("run", "attempts"), past=DAMAGED, starts=(0.0, 13.0)),
    Case(("pause",), ("run", "attempts"), past=DAMAGED, starts=(0.0, 28.0)),
    Case(("pause",), ("run", "stages"), past=DAMAGED),
    Case(("crash", "loss")),
    Case(("pause", "loss")),
    Case(("crash", "pause")),
]


@pytest.mark.parametrize(
    "shard",
    [pytest.param(shard, marks=pytest.mark.xdist_group(f"worlds {shard}")) for shard in range(SHARDS)],
)
def test_what_must_hold_holds_in_worlds_drawn_from_seeds(shard: int) -> None:
    for seed in range(shard, WORLDS, SHARDS):
        play(seed)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=pytest.mark.xdist_group(f"ways {number % SHARDS}"), id=str(case))
        for number, case in enumerate(ALWAYS)
    ],
)
def test_every_way_of_two_processes_and_one_fault_is_sound(case: Case) -> None:
    search = Search(case)
    search.run()
    assert search.ends and len(search.states) > search.ends / 2


@pytest.mark.slow
@pytest.mark.parametrize("case", LONG, ids=str)
def test_ways_with_other_faults_or_two_or_a_pause_longer_than_a_lease_are_sound(case: Case) -> None:
    Search(case).run(most=20_000)


@pytest.mark.slow
def test_what_must_hold_holds_in_many_more_worlds() -> None:
    for seed in range(WORLDS, 20_000):
        play(seed)


def test_a_seed_gives_the_same_world_each_time() -> None:
    """Else a failure could not be looked into."""
    for seed in random.Random(0).sample(range(WORLDS), 20):
        told: tuple[list[str], list[str]] = [], []
        outcomes = [play(seed, one.append) for one in told]
        assert outcomes[0] == outcomes[1] and told[0] == told[1]


def test_a_file_that_rotted_under_a_reader_and_that_its_writer_puts_right_late_is_sound() -> None:
    """Its first request to write it was given up, the second took effect, and the first does after the damage."""
    told: list[str] = []
    assert "rot" in play(155322, told.append).kinds
    *_, damaged, repaired, _ = (line.split() for line in told)
    assert damaged[2:4] == ["fate", "replaced"] and repaired[2:] == ["p1", *damaged[3:]]


@pytest.mark.parametrize(("seed", "put_back"), [(348232, "lease.json"), (352835, "scratch/half")])
def test_what_a_late_request_puts_back_is_nobody_s(seed: int, put_back: str) -> None:
    """A lease that was given back is there again and may be taken; a file of no manifest is there again and may go."""
    told: list[str] = []
    play(seed, told.append)
    assert sum(line.split()[3] == "made" and line.endswith(put_back) for line in told) > 1


def test_one_world_alone_is_told_change_by_change(capsys: pytest.CaptureFixture[str]) -> None:
    """Though what production prints in a world goes nowhere."""
    told: list[str] = []
    play(0, told.append)
    assert show(0) == 0 and capsys.readouterr().out.splitlines() == told
