"""Random prepared timelines, written as preparation writes them, with random tokens."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from behaviorlm.prompts.encoded_conversations import Conversation
from behaviorlm.prompts.encoder import PromptTokens
from behaviorlm.timelines.parts import TimelinePart, Window, load_part
from behaviorlm.timelines.vocabulary import Vocabulary

NAMES = ("lamp on", "lamp off", "door", "camera", "alarm")
TERMINATOR = 2


def vocabulary() -> Vocabulary:
    """Five behaviors, the first two anchors."""
    return Vocabulary(NAMES, np.array([50, 30, 9, 8, 3]), np.array([True, True, False, False, False]))


def prompt_tokens(seed: int, max_history_tokens: int = 10_000) -> PromptTokens:
    """A random instruction and random distinct labels."""
    random = np.random.default_rng([seed, 1])
    labels = tuple(
        np.array([10 + index, *random.integers(20, 97, random.integers(0, 3))], np.int32)
        for index in range(len(NAMES))
    )
    instruction = random.integers(3, 97, 6).astype(np.int32)
    return PromptTokens(instruction, np.array([TERMINATOR], np.int32), labels, max_history_tokens)


def write_part(path: Path, seed: int, lengths: list[int]) -> None:
    """One file of timelines of the given lengths; all events train, those at position 0 are no targets."""
    random = np.random.default_rng([seed, 2])
    rows = sum(lengths)
    users = np.repeat([f"{path.stem}-user-{number:03d}" for number in range(len(lengths))], lengths)
    position = np.concatenate([np.arange(length) for length in lengths]).astype(np.int32)

    def runs(low: int, high: int) -> pa.Array:
        return pa.array(
            [random.integers(3, 97, random.integers(low, high + 1)) for _ in range(rows)],
            pa.list_(pa.int32()),
        )

    ids = random.integers(0, 256, (rows, 16), dtype=np.uint8)
    table = pa.table(
        {
            "user": users,
            "group": users,
            "position": position,
            "order": position.astype(np.int64),
            "behavior": [NAMES[index] for index in random.integers(0, len(NAMES), rows)],
            "split": pa.array(np.zeros(rows), pa.int8()),
            "is_target": position > 0,
            "is_repeat": random.random(rows) < 0.3,
            "sample_id": pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), rows, [None, pa.py_buffer(ids)]),
            "line_ids": runs(2, 5),
            "question_ids": runs(1, 3),
        }
    )
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)


def random_parts(
    folder: Path, seed: int, lengths: list[list[int]], window: Window | None = None
) -> list[TimelinePart]:
    """One part for each list of timeline lengths, opened."""
    parts = []
    for number, of_part in enumerate(lengths):
        path = folder / f"timelines-{seed}-{number}.arrow"
        write_part(path, seed + number, of_part)
        parts.append(load_part(path, vocabulary(), window or Window(4, 2, 10_000)))
    return parts


def random_conversations(seed: int, number: int) -> list[Conversation]:
    """Conversations of 5 to 12 random tokens, about half of them the assistant's."""
    random = np.random.default_rng([seed, 3])
    result = []
    for _ in range(number):
        token_ids = random.integers(3, 97, random.integers(5, 13)).astype(np.int32)
        is_assistant = random.random(len(token_ids)) < 0.5
        is_assistant[0], is_assistant[-1] = False, True
        result.append(Conversation(token_ids, is_assistant, False))
    return result
