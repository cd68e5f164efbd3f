"""What sentences say of made-up numbers, worked out by hand."""

from behaviorlm_lab.paper.drawn import Row, measured
from behaviorlm_lab.paper.messages import leader, sorted_by_sign


def row(method: str, *of: float | None) -> Row:
    return {"method": method, **measured("accuracy", *of)}


def test_the_first_is_level_with_those_whose_intervals_reach_its_own() -> None:
    best, near, far = row("a, b", 0.5, 0.4, 0.6), row("near", 0.35, 0.3, 0.4), row("far", 0.2, 0.1, 0.3)
    assert leader([far, best, near], "accuracy") == "“a, b” 0.500 [0.400, 0.600], level with “near”"
    assert leader([far, best], "accuracy") == "“a, b” 0.500 [0.400, 0.600], apart from all others"
    many = [row(f"n{number}", 0.45, 0.4, 0.5) for number in range(5)]
    assert leader([best, *many], "accuracy").endswith("level with all of 5 others")
    assert leader([best, *many, far], "accuracy").endswith("level with 5 of 6 others")
    unmeasured = row("unmeasured", None, None, None)
    assert leader([unmeasured], "accuracy") == ""
    assert leader([best, row("unbounded", 0.1, None, None)], "accuracy").endswith("level with “unbounded”")


def test_a_paired_difference_whose_interval_holds_zero_tells_nothing_apart() -> None:
    rows = [row("lost", 0.2, 0.1, 0.3), row("won", -0.2, -0.3, -0.1), row("open", 0.1, -0.1, 0.3)]
    told = sorted_by_sign([*rows, row("whole", None, None, None)], "accuracy", "method")
    assert told == "ahead of “lost” (+0.200), behind “won” (-0.200), not told apart from “open” (+0.100)"
