"""Tokens of a window: those that are laid out, counted without looking at the rest of the part."""

from pathlib import Path

import numpy as np
import pytest

from behaviorlm.timelines.parts import Int64, SampleReadOut, TokenRuns, window_tokens, write_window
from behaviorlm.training.packs import Batching, StepSchedule
from behaviorlm.trees.token_tree import TreeWriter
from tests.behaviorlm.random_parts import prompt_tokens, random_parts


def test_the_tokens_of_a_window_are_those_that_are_laid_out(tmp_path: Path) -> None:
    (part,) = random_parts(tmp_path, 0, [[30, 2, 17]])
    for rows in part.windows(part.targets("train")):
        labels = [np.arange(1, 2 + row % 3, dtype=np.int32) for row in rows]
        writer = TreeWriter()
        write_window(writer, part, rows, [SampleReadOut(label, 1.0) for label in labels], 0)
        expected = window_tokens(part, rows, np.array([len(label) for label in labels]))
        assert len(writer.finish()) == expected


def test_opening_a_schedule_takes_the_lengths_of_no_part_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = random_parts(tmp_path, 0, [[40] * 20, [40] * 20])
    taken = list[int]()
    lengths = TokenRuns.lengths

    def noted(runs: TokenRuns) -> Int64:
        taken.append(len(runs.offsets) - 1)
        return lengths(runs)

    monkeypatch.setattr(TokenRuns, "lengths", noted)
    batching = Batching(16, 2, 400, 1.0, None, 0)
    schedule = StepSchedule(parts, [part.targets("train") for part in parts], prompt_tokens(0), [], batching)
    schedule.packs(0)
    assert sum(taken) <= sum(len(part) for part in parts)
