"""Records of benchmarks have one form, replace one another by name, and are held against their baselines."""

import itertools
from pathlib import Path

import pytest
import torch

from benchmarks import records
from benchmarks.records import (
    DRIFT,
    Record,
    faults,
    in_turn,
    main,
    operations_of,
    read,
    record,
    shares,
    steadiest,
    write,
)


def made_up(name: str, ratios: list[float], *, equal: bool = True, drift: float | None = 0.0) -> Record:
    return record(
        name, {"ours": [1.0] * len(ratios), "other": ratios}, equal=equal, drift=drift, shares=(0.5, None)
    )


def test_a_ratio_is_the_median_of_those_within_a_round() -> None:
    found = record("x", {"ours": [1.0, 2.0, 4.0], "other": [3.0, 4.0, 4.0]}, equal=True, drift=0.0)
    assert found["ratio"] == {"median": 2.0, "low": 1.0, "high": 3.0}
    assert found["arms"] == {"ours": {"median_seconds": 2.0}, "other": {"median_seconds": 4.0}}
    assert (found["ceiling_share"], found["floor_share"], found["rounds"]) == (None, None, 3)


@pytest.mark.parametrize(
    ("now", "is_fault"), [([2.0, 3.5], True), ([2.0, 3.6], False), ([3.9, 4.1], False), ([9.0, 9.0], False)]
)
def test_a_ratio_has_fallen_where_its_whole_interval_is_below_nine_tenths(
    now: list[float], is_fault: bool
) -> None:
    wrong = faults([made_up("a", now), made_up("new", [0.1])], [made_up("a", [4.0]), made_up("b", [4.0])])
    assert [each.partition(":")[0] for each in wrong] == (["a"] if is_fault else [])


def test_numbers_that_differ_are_a_fault_unless_they_are_meant_to() -> None:
    meant = made_up("b", [1.0], equal=False) | {"expected_unequal": "another model"}
    assert faults([made_up("a", [1.0], equal=False), meant], []) == ["a: the numbers differ"]


def test_records_are_replaced_by_name_and_those_that_drifted_are_left_out_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new" / "here.json"
    assert write(file, [made_up("a", [1.0]), made_up("b", [2.0])])
    assert not write(file, [made_up("a", [3.0]), made_up("b", [4.0], drift=2 * DRIFT)])
    assert {each["name"]: each["ratio"]["median"] for each in read(file)} == {"a": 3.0, "b": 2.0}
    assert capsys.readouterr().out == "b: discarded, the ceiling drifted by 30%\n"


def test_a_record_whose_drift_was_not_measured_is_kept_as_such(tmp_path: Path) -> None:
    assert write(tmp_path / "here.json", [made_up("a", [1.0], drift=None)])
    assert [each["drift"] for each in read(tmp_path / "here.json")] == [None]


def test_a_check_names_the_benchmark_that_fell_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now, before, other = (tmp_path / f"{name}.json" for name in ("now", "before", "other"))
    write(now, [made_up("fast", [5.0]), made_up("slow", [1.0])])
    write(before, [made_up("fast", [5.0]), made_up("slow", [2.0])])
    write(other, [made_up("something else", [5.0])])
    assert main([str(now), str(before)]) == 1
    told = capsys.readouterr().out
    assert (
        told.startswith("slow: 1.00 (1.00 to 1.00), below 0.9 of the baseline's 2.00") and "fast" not in told
    )
    assert main([str(now), str(now)]) == 0
    assert main([str(now), str(other)]) == 1 and "nothing was compared" in capsys.readouterr().out


def test_a_check_tells_the_baselines_of_its_kind_that_were_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now, before = tmp_path / "now.json", tmp_path / "before.json"
    step = "cap 1, 8 samples, 1M llama"
    others = ["tuning against packed, cap 1, 16 samples, 1M llama", "preparation, polars, 600,000 events"]
    missing = [f"tuning against trl, {step}", "preparation, polars, 100,000 events"]
    write(now, [made_up(f"tuning against packed, {step}", [2.0])])
    write(before, [made_up(name, [2.0]) for name in (f"tuning against packed, {step}", *others, *missing)])
    assert main([str(now), str(before)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told == [
        f"baselines that were not compared: {'; '.join(missing)}",
        "1 of 1 compared, 0 wrong",
    ]


def test_ways_take_turns_and_others_run_in_place_of_rounds_in_which_the_ceiling_drifts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ceilings = iter([1.0, 1.0, 1.5, 1.0, 1.1, 1.1])
    monkeypatch.setattr(records, "product_teraflops", lambda: next(ceilings))
    clock, order = itertools.count(), list[str]()

    def way(name: str) -> float:
        order.append(name)
        return float(next(clock))

    turns = in_turn({"a": lambda: way("a"), "b": lambda: way("b")}, rounds=2)
    assert order == ["b", "a", "a", "b"] * 2  # the second and third had 1.5 after or before them
    assert turns.taken == {"a": [1.0, 6.0], "b": [0.0, 7.0]}
    assert turns.drift == pytest.approx(0.1) and turns.ceiling == 1.0 and turns.left_out == 2


def test_a_run_whose_ceiling_never_settles_is_told_with_its_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    ceilings = itertools.cycle([1.0, 2.0])
    monkeypatch.setattr(records, "product_teraflops", lambda: next(ceilings))
    turns = in_turn({"a": lambda: 1.0}, rounds=2, tries=3)
    assert turns.drift == 1.0 and turns.left_out == 4 and len(turns.taken["a"]) == 2


@pytest.mark.parametrize(
    ("ceilings", "chosen"),
    [([3.0, 3.0, 3.0, 3.0], [0, 1]), ([1.0, 3.0, 3.1, 3.2], [1, 2]), ([3.0, 1.0, 2.0, 3.1, 3.0], [2, 3])],
)
def test_the_steadiest_rounds_are_those_of_the_nearest_ceilings(
    ceilings: list[float], chosen: list[int]
) -> None:
    assert steadiest([*itertools.pairwise(ceilings)], 2) == chosen


def test_operations_are_counted_of_products_and_of_attention_on_a_cpu() -> None:
    layer = torch.nn.Linear(6, 8, bias=False)
    query, key = torch.randn(2, 3, 5, 4), torch.randn(2, 3, 7, 4, requires_grad=True)

    def attend() -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(
            query, key, key, attn_mask=torch.ones(5, 7).bool()
        )

    assert operations_of(lambda: layer(torch.ones(10, 6))) == 2 * 10 * 6 * 8
    assert operations_of(attend) == 2 * 2 * (2 * 3 * 5 * 7 * 4)
    assert operations_of(lambda: attend().sum().backward()) == 7 * 2 * (
        2 * 3 * 5 * 7 * 4
    )  # its products are made anew
    assert shares(2e12, 1e12, [4.0, 8.0, 4.0], 0.5) == (1.0, 0.5)
