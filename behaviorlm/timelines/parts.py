"""Prepared timelines as arrays, and the token tree of a history window.

A part is one Arrow file of whole timelines, memory-mapped: many processes of a machine share its pages, and any row
is reached without reading the others. Prompts are never stored: a window's tree is put together from the token runs
of its events.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from behaviorlm.errors import DataError, StorageError
from behaviorlm.files.data_only import data_only
from behaviorlm.prompts.encoder import PromptTokens
from behaviorlm.timelines.profiles import profile_rows
from behaviorlm.timelines.sample_ids import id_octets
from behaviorlm.timelines.splits import SPLIT_NAMES
from behaviorlm.timelines.vocabulary import Vocabulary
from behaviorlm.trees.token_tree import Int32, TokenTree, TreeWriter

Int64 = NDArray[np.int64]
PROFILES = "profile_ids"
"""Column of a part, where prompts begin with a profile."""
_NOTHING = np.zeros(0, np.int32)


@dataclass(frozen=True)
class TokenRuns:
    """A run of token ids for each of n rows: `values[offsets[i]:offsets[i + 1]]`; int32, int64 [n + 1]."""

    values: Int32
    offsets: Int64

    def __getitem__(self, row: int) -> Int32:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def lengths(self) -> Int64:
        """Tokens of each row; int64 [n]."""
        return np.diff(self.offsets)

    def tokens(self, rows: Int64) -> int:
        """Tokens of some rows together; costs what they are, not what there is."""
        return int((self.offsets[rows + 1] - self.offsets[rows]).sum())


def token_runs(runs: Sequence[Int32]) -> TokenRuns:
    """Runs laid one after another."""
    values = np.concatenate([np.zeros(0, np.int32), *runs]).astype(np.int32)
    return TokenRuns(values, np.cumsum([0, *map(len, runs)]).astype(np.int64))


def no_profiles(rows: int) -> TokenRuns:
    """An empty run for each of so many rows."""
    return TokenRuns(np.zeros(0, np.int32), np.zeros(rows + 1, np.int64))


@dataclass(frozen=True)
class TimelinePart:
    """The timelines of one file; n rows (events), sorted by user and time.

    user_start: int64 [n], the row at which the row's timeline begins. window_start: int64 [n], the row at which the
    history of the row's sample begins (the row itself: no history). behavior: int32 [n], index in the vocabulary,
    -1 for a behavior unseen in training. profile_row: int64 [n], the row of `profiles` that the window begins with.
    split: int8 [n], index in SPLIT_NAMES. sample_id: uint8 [n, 16].
    """

    path: Path
    table: pa.Table
    user_start: Int64
    window_start: Int64
    lines: TokenRuns
    questions: TokenRuns
    profiles: TokenRuns
    profile_row: Int64
    behavior: Int32
    split: NDArray[np.int8]
    is_target: NDArray[np.bool_]
    is_repeat: NDArray[np.bool_]
    sample_id: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.behavior)

    def targets(self, split: str) -> Int64:
        """Rows that are targets of samples in a split; int64."""
        return np.flatnonzero(self.is_target & (self.split == SPLIT_NAMES.index(split)))

    def prompt_lengths(self, rows: Int64) -> Int64:
        """Tokens of each row's profile, history and question; int64 [len(rows)]."""
        lines = self.lines.offsets[rows] - self.lines.offsets[self.window_start[rows]]
        return lines + self.profiles.lengths()[self.profile_row[rows]] + self.questions.lengths()[rows]

    def windows(self, rows: Int64) -> Iterator[Int64]:
        """Cut ascending target rows into runs that share their window's start."""
        starts = self.window_start[rows]
        yield from np.split(rows, np.flatnonzero(starts[1:] != starts[:-1]) + 1) if len(rows) else []


@dataclass(frozen=True)
class Window:
    """How much history a sample sees: events, and tokens of them, from a start that is a multiple of `stride`."""

    max_events: int
    stride: int
    max_history_tokens: int


def load_part(path: Path, vocabulary: Vocabulary, window: Window) -> TimelinePart:
    """Open one file of prepared timelines. Raises StorageError where it is damaged."""
    try:
        table = data_only(pa.ipc.open_file(pa.memory_map(str(path))), path).read_all().combine_chunks()
        user_start = run_starts(table["user"])
        lines, questions = _token_runs(table["line_ids"]), _token_runs(table["question_ids"])
        sample_id = id_octets(table["sample_id"])
        profiles = no_profiles(len(table))
        if PROFILES in table.column_names:
            profiles = _token_runs(table[PROFILES])
    except (OSError, pa.ArrowInvalid, KeyError, DataError) as error:
        raise StorageError(f"{path} is not a file of prepared timelines: {error}") from None
    history_start = history_starts(table)
    window_start = window_starts(history_start, lines.lengths(), window)
    return TimelinePart(
        path,
        table,
        user_start,
        window_start,
        lines,
        questions,
        profiles,
        profile_rows(history_start, window_start, window.stride),
        vocabulary.index(_one_chunk(table["behavior"])),
        table["split"].to_numpy().astype(np.int8),
        table["is_target"].to_numpy(zero_copy_only=False),
        table["is_repeat"].to_numpy(zero_copy_only=False),
        sample_id,
    )


def run_starts(users: pa.ChunkedArray) -> Int64:
    """For rows sorted by user, the first row of each row's user; int64 [n]."""
    codes = users.combine_chunks().dictionary_encode()
    codes = codes.indices.to_numpy() if isinstance(codes, pa.DictionaryArray) else np.zeros(0, dtype=np.int32)
    row = np.arange(len(codes), dtype=np.int64)
    first = np.r_[True, codes[1:] != codes[:-1]] if len(codes) else np.zeros(0, dtype=bool)
    return np.maximum.accumulate(np.where(first, row, 0))


def history_starts(table: pa.Table) -> Int64:
    """The row before which no history of each row reaches: its user's first, or its session's; int64 [n]."""
    if "session_position" not in table.column_names:
        return run_starts(table["user"])
    return np.arange(len(table), dtype=np.int64) - table["session_position"].to_numpy()


def window_starts(history_start: Int64, line_tokens: Int64, window: Window) -> Int64:
    """The row at which each row's history begins; int64 [n] (our choice of rule).

    The earliest start with at most `max_events` events and `max_history_tokens` tokens of lines, moved up to the next
    multiple of `stride` in the timeline (in the session, where histories do not cross sessions) so that neighboring
    samples share their prefix; where moving it would leave no history, it stays where it was.
    """
    row = np.arange(len(history_start), dtype=np.int64)
    before = np.r_[0, np.cumsum(line_tokens)]
    by_tokens = np.searchsorted(before, before[row] - window.max_history_tokens, side="left")
    earliest = np.maximum(np.maximum(history_start, row - window.max_events), by_tokens)
    position = earliest - history_start
    aligned = history_start + -(-position // window.stride) * window.stride
    return np.where(aligned < row, aligned, np.minimum(earliest, row))


def history_tokens(history_start: Int64, line_tokens: Int64, max_events: int, stride: int) -> Int64:
    """Tokens of each row's history where only events limit it; int64 [n].

    A window has less history than that exactly where its `max_history_tokens` are fewer.
    """
    before = np.r_[0, np.cumsum(line_tokens)]
    start = window_starts(history_start, line_tokens, Window(max_events, stride, int(before[-1])))
    return before[:-1] - before[start]


@dataclass(frozen=True)
class KeptReadOut:
    """What holds a sample to a reference: see `TreeWriter.kept_sample`."""

    tree: TokenTree
    places: Int64
    weight: float
    reference: NDArray[np.float32]
    part: int


@dataclass(frozen=True)
class SampleReadOut:
    """What to read out at a sample: the label's tokens with the terminator, and the weight of each in the loss."""

    label_ids: Int32
    weight: float
    kept: KeptReadOut | None = None


def write_window(
    writer: TreeWriter, part: TimelinePart, rows: Int64, read_outs: list[SampleReadOut], item: int
) -> None:
    """Hang the samples of one window (ascending target rows) below the open run, history shared.

    Sample k of the window becomes item `item + k`.
    """
    opened = _open_profile(writer, part, rows)
    at = int(part.window_start[rows[0]])
    for offset, (row, read_out) in enumerate(zip(rows.tolist(), read_outs, strict=True)):
        opened += _open_lines(writer, part, at, row)
        at = max(at, row)
        writer.open(part.questions[row])
        writer.predicted_leaf(
            _NOTHING, read_out.label_ids, weight=read_out.weight, part=0, item=item + offset
        )
        kept = read_out.kept
        if kept is not None:
            writer.kept_sample(
                kept.tree, kept.places, weight=kept.weight, reference=kept.reference, part=kept.part
            )
        writer.close()
    for _ in range(opened):
        writer.close()


def write_prompts(writer: TreeWriter, part: TimelinePart, rows: Int64) -> list[int]:
    """Hang the prompts of one window below the open run. Returns the index of each prompt's last token."""
    opened = _open_profile(writer, part, rows)
    at = int(part.window_start[rows[0]])
    last = []
    for row in rows.tolist():
        opened += _open_lines(writer, part, at, row)
        at = max(at, row)
        last.append(writer.leaf(part.questions[row]))
    for _ in range(opened):
        writer.close()
    return last


def window_tokens(part: TimelinePart, rows: Int64, labels: Int64) -> int:
    """Tokens that `write_window` lays out for these rows. labels: of each one's label and terminator, and of what else
    hangs below its prompt.
    """
    start, last = part.window_start[rows[0]], rows[-1]
    lines = part.lines.offsets[last] - part.lines.offsets[start] + len(_profile(part, rows))
    return int(lines + part.questions.tokens(rows) + (labels - 1).sum())


def labels_with_terminator(prompt: PromptTokens) -> list[Int32]:
    """The tokens to be predicted for each name of the vocabulary."""
    return [np.concatenate([ids, prompt.terminator_ids]).astype(np.int32) for ids in prompt.label_ids]


def tokens_of_labels(prompt: PromptTokens) -> Int64:
    """The token ids that names and their terminator consist of, ascending; int64 [n]."""
    return np.unique(np.concatenate(labels_with_terminator(prompt))).astype(np.int64)


def _profile(part: TimelinePart, rows: Int64) -> Int32:
    """What the rows of one window begin with."""
    return part.profiles[int(part.profile_row[rows[0]])]


def _open_profile(writer: TreeWriter, part: TimelinePart, rows: Int64) -> int:
    """Open it as one run, where there is any."""
    profile = _profile(part, rows)
    if len(profile):
        writer.open(profile)
    return int(len(profile) > 0)


def _open_lines(writer: TreeWriter, part: TimelinePart, start: int, stop: int) -> int:
    """Open the lines of rows start..stop-1 as one run (they have no branch between them)."""
    if stop <= start:
        return 0
    writer.open(part.lines.values[part.lines.offsets[start] : part.lines.offsets[stop]])
    return 1


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _token_runs(column: pa.ChunkedArray) -> TokenRuns:
    array = _one_chunk(column)
    offsets = array.offsets.to_numpy().astype(np.int64)
    return TokenRuns(array.values.to_numpy(), offsets)
