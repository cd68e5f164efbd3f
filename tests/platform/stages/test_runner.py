"""Declared stages: their order, what is run, reused and planned, and what is looked at on the way."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from behaviorlm.errors import DataError
from behaviorlm_ray import storage
from behaviorlm_ray.stages.attempts import StageFolder, StageResult
from behaviorlm_ray.stages.finding import StageOutput
from behaviorlm_ray.stages.run_record import RunRecord, read_asked
from behaviorlm_ray.stages.runner import Runner
from behaviorlm_ray.stages.stage import CONTINUED, Made, Stage, in_order
from behaviorlm_ray.storage import Location


def declared(
    name: str, ran: list[str], inputs: Mapping[str, Stage | str] | None = None, **more: Any
) -> Stage:
    """A stage that notes that it ran and writes the names of its inputs."""

    def body(folder: StageFolder, made: Made) -> StageResult:
        ran.append(name)
        storage.write_replacing(folder.output / "told.txt", f"{name} of {sorted(made)}".encode())
        return StageResult(rows={"inputs": len(made)})

    return Stage(name, 1, more.pop("identity", {}), inputs or {}, body, **more)


def diamond(ran: list[str], **of_last: Any) -> Stage:
    first = declared("first", ran, {"log": "hash"})
    long = declared("long", ran, {"first": declared("middle", ran, {"first": first})})
    short = declared("short", ran, {"first": first})
    return declared("last", ran, {"short": short, "long": long}, **of_last)


def test_each_stage_runs_once_after_what_it_reads_and_those_far_from_the_goal_first(root: Location) -> None:
    ran: list[str] = []
    output = Runner(root).run(diamond(ran))
    assert ran == ["first", "middle", "short", "long", "last"]
    assert storage.read_text(output.folder / "told.txt") == "last of ['long', 'short']"


def test_another_runner_reuses_everything_and_planning_says_the_same_without_a_trace(root: Location) -> None:
    ran: list[str] = []
    planned = Runner(root).plan(diamond(ran))
    assert [(plan.name, plan.action) for _, plan in planned][:2] == [("first", "run"), ("middle", "unknown")]
    assert not storage.list_files(root) and not ran
    Runner(root).run(diamond(ran))
    assert {plan.action for _, plan in Runner(root).plan(diamond(ran))} == {"reuse"}
    runner = Runner(root)
    runner.run(diamond(ran))
    assert len(ran) == 5 and all(output.reused for output in runner.outputs.values())


@given(st.data())
def test_the_order_has_every_stage_once_and_inputs_before_their_readers(data: st.DataObject) -> None:
    stages: list[Stage] = []
    for number in range(data.draw(st.integers(1, 9))):
        chosen = data.draw(st.sets(st.sampled_from(range(number)))) if number else set()
        stages.append(declared(f"s{number}", [], {f"i{place}": stages[place] for place in chosen}))
    goals = data.draw(st.lists(st.sampled_from(stages), min_size=1))
    ordered = in_order(goals)
    recipes = [stage.recipe for stage in ordered]
    assert len(set(recipes)) == len(recipes) and {goal.recipe for goal in goals} <= set(recipes)
    for place, stage in enumerate(ordered):
        assert all(earlier.recipe in recipes[:place] for earlier in stage.before.values())


def test_what_two_arms_declare_alike_is_one_stage_called_as_the_run_calls_it() -> None:
    of_arm = declared("first", [], arm="mine")
    other = declared("second", [], {"first": of_arm}, arm="mine")
    labels = [
        stage.label for stage in in_order([other, declared("third", [], {"first": declared("first", [])})])
    ]
    assert labels == ["first", "third", "second (mine)"]


def test_an_input_is_looked_at_before_other_inputs_are_made_also_by_a_plan(root: Location) -> None:
    def refuse(output: StageOutput) -> None:
        raise DataError(f"{output.manifest.stage} lacks a tail")

    def goal(ran: list[str]) -> Stage:
        first = declared("first", ran)
        long = declared("long", ran, {"first": first})
        return declared("last", ran, {"first": first, "long": long}, input_checks={"first": refuse})

    ran: list[str] = []
    for _ in range(2):
        with pytest.raises(DataError, match="first lacks a tail"):
            Runner(root).run(goal(ran))
    assert ran == ["first"]
    with pytest.raises(DataError, match="first lacks a tail"):
        Runner(root).plan(goal(ran))


def test_a_reused_output_is_held_against_its_check(root: Location) -> None:
    def refuse(output: StageOutput) -> None:
        raise DataError("too many rows in quarantine")

    ran: list[str] = []
    Runner(root).run(declared("first", ran))
    with pytest.raises(DataError, match="quarantine"):
        Runner(root).run(declared("first", ran, check=refuse))
    assert ran == ["first"]


def test_what_a_stage_goes_on_from_runs_only_if_it_has_to_and_changes_no_identity(root: Location) -> None:
    found: list[bool] = []

    def body(folder: StageFolder, made: Made) -> StageResult:
        found.append(CONTINUED in made)
        return StageResult()

    ran: list[str] = []
    whole = Stage("whole", 1, {}, {}, body, continues=declared("rung", ran))
    assert whole.recipe == Stage("whole", 1, {}, {}, body).recipe
    Runner(root).run(whole)
    assert ran == ["rung"] and found == [True]
    Runner(root / "other").run(Stage("whole", 1, {}, {}, body))
    Runner(root / "other").run(whole)
    assert ran == ["rung"] and found == [True, False]


def test_the_record_names_the_stages_that_were_asked_for(root: Location) -> None:
    ran: list[str] = []
    runner = Runner(root, RunRecord(root / "mine"))
    runner.run(diamond(ran))
    runner.run(diamond(ran))
    told = read_asked(root / "mine").stages
    assert [name.rpartition("-")[0] for name in told] == ["first", "middle", "short", "long", "last"]
    assert {output.folder.parents[1].name for output in runner.outputs.values()} == set(told)
