"""Prompts of histories: their windows cut as in preparation, and many of them in trees that share what they can."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pyarrow as pa

from behaviorlm.errors import DataError
from behaviorlm.predictor.artifact import SharedTokens
from behaviorlm.predictor.histories import History
from behaviorlm.predictor.requests import Owner
from behaviorlm.prompts.config import PromptConfig
from behaviorlm.prompts.encoder import PromptEncoder
from behaviorlm.scoring.label_scoring import PromptWriter
from behaviorlm.timelines.parts import Window, window_starts
from behaviorlm.timelines.profiles import profile_of
from behaviorlm.trees.token_tree import Int32, TreeWriter


@dataclass(frozen=True)
class Prompt:
    """lines: the tokens of each event that is shown. is_cut: whether the model's room took some of them.

    owner: whose it is, where its keys and values may be kept. profile: the tokens before the lines. uncounted: events
    before those given, which the profile lacks.
    """

    lines: tuple[Int32, ...]
    question: Int32
    is_cut: bool
    owner: Owner | None = None
    profile: Int32 | None = None
    uncounted: int = 0

    @property
    def runs(self) -> tuple[Int32, ...]:
        """All between the instruction and the question."""
        return self.lines if self.profile is None else (self.profile, *self.lines)

    def without(self, place: int) -> "Prompt":
        """The same prompt without one of its events, which is nobody's history."""
        return replace(self, lines=self.lines[:place] + self.lines[place + 1 :], owner=None)


def build_prompts(
    histories: Sequence[History],
    encoder: PromptEncoder,
    config: PromptConfig,
    tokens: SharedTokens,
    longest_label: int,
) -> list[Prompt]:
    """The prompt of each history, with the window that preparation would give its next event.

    longest_label: tokens of the longest label without its terminator, new names included. Raises DataError where a
    context leaves no room for an answer.
    """
    latest = [history.events.slice(max(0, len(history.events) - config.max_events)) for history in histories]
    lines = _runs(encoder.encode_lines(pa.concat_tables(latest)))
    questions = _runs(encoder.encode_questions(pa.concat_tables([history.now for history in histories])))
    start, prompts = 0, []
    for number, (history, shown, question) in enumerate(zip(histories, latest, questions, strict=True)):
        of_history = lines[start : start + len(shown)]
        start += len(shown)
        taken = len(tokens.instruction_ids) + len(question) + longest_label + len(tokens.terminator_ids)
        room = min(tokens.max_history_tokens, tokens.max_positions - taken)
        if room < 0:
            raise DataError(
                f"request {number}: its context takes {len(question)} tokens and the longest name {longest_label}, "
                f"which leaves no room in the {tokens.max_positions} positions of the model; shorten them"
            )
        earlier = history.earlier + len(history.events) - len(shown)
        window = Window(config.max_events, config.stride, room)
        first = window_start([len(line) for line in of_history], earlier, window)
        profile = _profile(history, earlier + first, encoder)
        size = 0 if profile is None else len(profile)
        if taken + size + sum(map(len, of_history[first:])) > tokens.max_positions:
            # longer than any that the room was measured by
            less = replace(window, max_history_tokens=max(0, room - size))
            first = window_start([len(line) for line in of_history], earlier, less)
        by_events = window_start([0] * len(of_history), earlier, window)
        prompts.append(
            Prompt(
                tuple(of_history[first:]),
                question,
                first > by_events,
                history.owner,
                profile,
                history.earlier if config.profile else 0,
            )
        )
    return prompts


def _profile(history: History, start: int, encoder: PromptEncoder) -> Int32 | None:
    """What a window from event `start` of the timeline begins with, as far as the events are there."""
    config = encoder.config
    counted = start // config.stride * config.stride - history.earlier
    if not config.profile or counted <= 0:
        return None
    names = history.events["behavior"].slice(0, counted).to_pylist()
    [found] = encoder.encode_profiles([profile_of(names, config.profile)])
    return found


def window_start(line_tokens: Sequence[int], earlier: int, window: Window) -> int:
    """Which event of a history is the first that its next event sees, by the rule of `window_starts`.

    earlier: events of the timeline before the first of these. The rule aligns windows in the whole timeline; what lies
    before the first event here cannot be shown.
    """
    rows = len(line_tokens) + 1
    starts = window_starts(np.full(rows, -earlier, np.int64), np.array([*line_tokens, 0], np.int64), window)
    return int(starts[-1])


def trees(
    prompts: Sequence[Prompt], instruction: Int32, max_tokens: int
) -> Iterator[tuple[list[int], PromptWriter]]:
    """Prompts in groups of at most `max_tokens` tokens where one alone allows it: which ones, and what writes them.

    Within a group equal beginnings are written once.
    """
    keys = [tuple(run.tobytes() for run in prompt.runs) for prompt in prompts]
    order = sorted(range(len(prompts)), key=lambda number: keys[number])
    groups: list[list[int]] = []
    size = 0
    for number in order:
        shared = _shared(keys[groups[-1][-1]], keys[number]) if groups else 0
        new = sum(map(len, prompts[number].runs[shared:])) + len(prompts[number].question)
        if not groups or size + new > max_tokens:
            groups.append([])
            size = len(instruction)
            new = sum(map(len, prompts[number].runs)) + len(prompts[number].question)
        groups[-1].append(number)
        size += new
    for group in groups:
        yield (
            group,
            _writer([prompts[number] for number in group], [keys[number] for number in group], instruction),
        )


def _writer(prompts: Sequence[Prompt], keys: Sequence[tuple[bytes, ...]], instruction: Int32) -> PromptWriter:
    def write(writer: TreeWriter) -> list[int]:
        writer.open(instruction)
        last = []
        shared = [0, *(_shared(first, second) for first, second in pairwise(keys))]
        opened = 0
        for prompt, kept in zip(prompts, shared, strict=True):
            for _ in range(opened - kept):
                writer.close()
            for run in prompt.runs[kept:]:
                writer.open(run)
            opened = len(prompt.runs)
            last.append(writer.leaf(prompt.question))
        return last

    return write


def _shared(first: Sequence[bytes], second: Sequence[bytes]) -> int:
    """How many runs both begin with."""
    same = 0
    while same < min(len(first), len(second)) and first[same] == second[same]:
        same += 1
    return same


def _runs(column: pa.ListArray) -> list[Int32]:
    values = column.values.to_numpy()
    return [values[start:stop] for start, stop in pairwise(column.offsets.to_numpy())]
