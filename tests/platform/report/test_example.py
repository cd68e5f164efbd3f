"""The example in words: what is listed, in which order, and that text of a log cannot act."""

from behaviorlm_ray.report.example import described


def test_it_names_history_context_expectations_and_what_came() -> None:
    lines = described(
        [f"step {i}" for i in range(8)],
        ["Mon", "08"],
        [("pay", 0.714), ("leave", 0.2)],
        "leave",
        "ab_tuned",
    )
    assert lines == [
        "example, ab_tuned: somebody did … 'step 2', 'step 3', 'step 4', 'step 5', 'step 6', 'step 7'.",
        "  Next (Mon, 08) it expects 'pay' (71 %), 'leave' (20 %); it was 'leave'.",
    ]


def test_control_characters_are_written_out_and_an_empty_history_is_said() -> None:
    lines = described([], ["a\x1b[2J", "\u202eb"], [("b\n", 1.0)], "c", "one_stage")
    assert "did nothing." in lines[0]
    assert all(line.isprintable() for line in lines)
