"""Profile lines: what is counted, and that trees hold each prompt's own, against counting and laying out by hand."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from behaviorlm.prompts.config import PromptConfig
from behaviorlm.prompts.encoder import PromptEncoder
from behaviorlm.timelines.parts import (
    PROFILES,
    SampleReadOut,
    TimelinePart,
    Window,
    load_part,
    window_tokens,
    write_prompts,
    write_window,
)
from behaviorlm.timelines.profiles import profile_of, profiles
from behaviorlm.trees.token_tree import TokenTree, TreeWriter
from tests.behaviorlm.random_parts import vocabulary, write_part
from tests.behaviorlm.tokenizers_for_tests import small_tokenizer

STRIDE, MOST = 3, 2


def by_hand(names: list[str], most: int) -> list[tuple[str, int]]:
    counted = Counter(names)
    return [(name, counted[name]) for name in sorted(counted, key=lambda name: (-counted[name], name))][:most]


@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=14), max_size=4), st.integers(1, 5))
def test_what_lies_before_each_stride_is_counted(histories: list[list[str]], stride: int) -> None:
    names = [name for of in histories for name in of]
    starts = np.repeat(np.cumsum([0, *map(len, histories)])[:-1], list(map(len, histories)))
    found = profiles(names, starts, stride, MOST)
    for row, start in enumerate(starts.tolist()):
        is_start = (row - start) % stride == 0
        assert found[row] == (by_hand(names[start:row], MOST) if is_start else [])
    assert profile_of(names, MOST) == by_hand(names, MOST)


def test_a_line_names_behaviors_as_history_lines_do() -> None:
    encoder = PromptEncoder(small_tokenizer(), PromptConfig(profile=MOST))
    line, nothing = encoder.encode_profiles([[("lamp on", 12), ("<|im_end|>\n", 3)], []])
    assert len(nothing) == 0
    assert small_tokenizer().decode(line) == "Most often before: lamp on 12, <|im_end|>  3,\n"
    name = encoder.encode_names(["lamp on"])[0]
    text = line.tobytes()
    assert name.tobytes() in text


def part_with_profiles(folder: Path, window: Window) -> tuple[TimelinePart, list[list[int]]]:
    """A random part, and the profile tokens of each row: any, as long as they tell rows apart."""
    write_part(folder / "plain.arrow", 4, [17, 1, 9])
    table = pa.ipc.open_file(pa.memory_map(str(folder / "plain.arrow"))).read_all()
    position = table["position"].to_numpy()
    of_rows = [
        [900 + row, 800] if place and place % STRIDE == 0 else [] for row, place in enumerate(position)
    ]
    table = table.append_column(PROFILES, pa.array(of_rows, pa.list_(pa.int32())))
    with pa.ipc.new_file(str(folder / "with.arrow"), table.schema) as writer:
        writer.write_table(table)
    return load_part(folder / "with.arrow", vocabulary(), window), of_rows


def path_to(tree: TokenTree, last: int) -> list[int]:
    """The tokens from the root to one of the tree."""
    return [int(tree.token_ids[at]) for at in range(last + 1) if tree.end[at] > last]


def test_trees_hold_the_profile_of_each_window_before_its_history(tmp_path: Path) -> None:
    for room in (10_000, 8):  # with little room windows also start between strides
        part, of_rows = part_with_profiles(tmp_path, Window(5, STRIDE, room))
        users = part.user_start
        seen = 0
        for rows in part.windows(part.targets("train")):
            writer = TreeWriter()
            writer.open(np.array([1, 2], np.int32))
            last = write_prompts(writer, part, rows)
            tree = writer.finish()
            for row, at in zip(rows.tolist(), last, strict=True):
                begin, user = int(part.window_start[row]), int(users[row])
                profile = of_rows[user + (begin - user) // STRIDE * STRIDE]
                lines = [token for one in range(begin, row) for token in part.lines[one].tolist()]
                assert path_to(tree, at) == [1, 2, *profile, *lines, *part.questions[row].tolist()]
                assert int(part.prompt_lengths(np.array([row]))[0]) == len(path_to(tree, at)) - 2
                seen += len(profile) > 0
            labels = [SampleReadOut(np.array([7, 8], np.int32), 1.0)] * len(rows)
            writer = TreeWriter()
            write_window(writer, part, rows, labels, 0)
            assert len(writer.finish().token_ids) == window_tokens(part, rows, np.full(len(rows), 2))
        assert seen > 5
