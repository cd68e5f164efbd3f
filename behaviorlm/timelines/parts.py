"""Prepared timelines as arrays, and the token tree of a history window.

A part is one Arrow file of whole timelines, memory-mapped: many processes of a machine share its pages, and any row
is reached without reading the others. Prompts are never stored: a window's tree is put together from the token runs
of its events.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from behaviorlm.errors import DataError, StorageError
from behaviorlm.files.data_only import data_only
from behaviorlm.log_files.text import one_chunk
from behaviorlm.prompts.encoder import PromptTokens
from behaviorlm.timelines.profiles import profile_rows
from behaviorlm.timelines.sample_ids import id_octets
from behaviorlm.timelines.segments import marks
from behaviorlm.timelines.splits import SPLIT_NAMES
from behaviorlm.timelines.vocabulary import Vocabulary
from behaviorlm.trees.token_tree import Int32, TokenTree, TreeWriter

Int64 = NDArray[np.int64]
PROFILES = "profile_ids"
"""Column of a part, where prompts begin with a profile."""
_HISTORY = "session_position"
"""Column of a part, where histories do not cross sessions."""


@dataclass(frozen=True)
class TokenRuns:
    """A run of token ids for each of n rows: `values[offsets[i]:offsets[i + 1]]`; int32, int32 or int64 [n + 1]."""

    values: Int32
    offsets: NDArray[np.integer]

    def __getitem__(self, row: int) -> Int32:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def lengths(self) -> Int64:
        """Tokens of each row; int64 [n]."""
        return np.diff(self.offsets).astype(np.int64, copy=False)

    def lengths_of(self, rows: Int64) -> Int64:
        """Tokens of some rows; int64 [len(rows)]."""
        return (self.offsets[rows + 1] - self.offsets[rows]).astype(np.int64, copy=False)


def token_runs(runs: Sequence[Int32]) -> TokenRuns:
    """Runs laid one after another."""
    values = np.concatenate([np.zeros(0, np.int32), *runs]).astype(np.int32)
    return TokenRuns(values, np.cumsum([0, *map(len, runs)]).astype(np.int64))


def no_profiles(rows: int) -> TokenRuns:
    """An empty run for each of so many rows."""
    return TokenRuns(np.zeros(0, np.int32), np.broadcast_to(np.int64(0), rows + 1))


class OnDemand:
    """A whole number of each of n rows, made where it is asked for: what nobody asks for takes no memory.

    made: int64 of rows, int64 [m]. Rows are asked for as of an array: by an index, an array of them, a mask or a slice.
    """

    def __init__(self, rows: int, made: Callable[[Int64], Int64]) -> None:
        self._rows, self._made = rows, made

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, asked: Any) -> Any:
        if isinstance(asked, slice):
            return self._made(np.arange(*asked.indices(self._rows), dtype=np.int64))
        rows = np.asarray(asked)
        if rows.dtype == bool:
            rows = np.flatnonzero(rows)
        found = self._made(np.atleast_1d(rows).astype(np.int64, copy=False))
        return found if rows.ndim else found[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Int64:
        return np.asarray(self[:], dtype)


@dataclass(frozen=True)
class TimelinePart:
    """The timelines of one file; n rows (events), sorted by user and time.

    user_start: int64 [n], the row at which the row's timeline begins. window_start: int64 [n], the row at which the
    history of the row's sample begins (the row itself: no history). behavior: int32 [n], index in the vocabulary,
    -1 for a behavior unseen in training. profile_row: int64 [n], the row of `profiles` that the window begins with.
    split: int8 [n], index in SPLIT_NAMES. sample_id: uint8 [n, 16]. halo, segment: see `segments`; where they are not
    nothing, a timeline and a history may begin before the part, at a negative row.
    """

    path: Path
    table: pa.Table
    user_start: Int64 | OnDemand
    window_start: Int64 | OnDemand
    lines: TokenRuns
    questions: TokenRuns
    profiles: TokenRuns
    profile_row: Int64 | OnDemand
    behavior: Int32
    split: NDArray[np.int8]
    is_target: NDArray[np.bool_]
    is_repeat: NDArray[np.bool_]
    sample_id: NDArray[np.uint8]
    halo: int = 0
    segment: int = -1

    def __len__(self) -> int:
        return len(self.behavior)

    def timelines(self, rows: Int64) -> tuple[int, Int64]:
        """Which timelines some rows are of: how many parts before this one they begin, and at which row each there."""
        return (
            (self.segment, np.zeros(len(rows), np.int64)) if self.segment > 0 else (0, self.user_start[rows])
        )

    @property
    def own_events(self) -> pa.Table:
        """Without the halo."""
        return self.table.slice(self.halo)

    def targets(self, split: str) -> Int64:
        """Rows that are targets of samples in a split; int64."""
        return np.flatnonzero(self.is_target & (self.split == SPLIT_NAMES.index(split)))

    def prompt_lengths(self, rows: Int64) -> Int64:
        """Tokens of each row's profile, history and question; int64 [len(rows)]."""
        lines = self.lines.offsets[rows] - self.lines.offsets[self.window_start[rows]]
        of_profiles = self.profiles.lengths_of(self.profile_row[rows])
        return lines + of_profiles + self.questions.lengths_of(rows)

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
        return part_of_table(table, vocabulary, window, path)
    except (OSError, pa.ArrowInvalid, KeyError, DataError) as error:
        raise StorageError(f"{path} is not a file of prepared timelines: {error}") from None


def part_of_table(table: pa.Table, vocabulary: Vocabulary, window: Window, path: Path) -> TimelinePart:
    """The same of what such a file holds, in one chunk. path: what it is called."""
    position = table["position"].to_numpy()
    in_history = table[_HISTORY].to_numpy() if _HISTORY in table.column_names else position
    lines, questions = _token_runs(table["line_ids"]), _token_runs(table["question_ids"])

    def window_start(rows: Int64) -> Int64:
        return window_starts_of(rows, rows - in_history[rows], lines.offsets, window)

    def profile_row(rows: Int64) -> Int64:
        return profile_rows(rows - in_history[rows], window_start(rows), window.stride)

    return TimelinePart(
        path,
        table,
        OnDemand(len(table), lambda rows: rows - position[rows]),
        OnDemand(len(table), window_start),
        lines,
        questions,
        _token_runs(table[PROFILES]) if PROFILES in table.column_names else no_profiles(len(table)),
        OnDemand(len(table), profile_row),
        vocabulary.index(one_chunk(table["behavior"])),
        table["split"].to_numpy().astype(np.int8, copy=False),
        table["is_target"].to_numpy(zero_copy_only=False),
        table["is_repeat"].to_numpy(zero_copy_only=False),
        id_octets(table["sample_id"]),
        *marks(table),
    )


def history_starts(table: pa.Table) -> Int64:
    """The row before which no history of each row reaches: its user's first, or its session's; int64 [n]."""
    name = _HISTORY if _HISTORY in table.column_names else "position"
    return np.arange(len(table), dtype=np.int64) - table[name].to_numpy()


def window_starts(history_start: Int64, line_tokens: Int64, window: Window) -> Int64:
    """The row at which each row's history begins; int64 [n] (our choice of rule).

    The earliest start with at most `max_events` events and `max_history_tokens` tokens of lines, moved up to the next
    multiple of `stride` in the timeline (in the session, where histories do not cross sessions) so that neighboring
    samples share their prefix; where moving it would leave no history, it stays where it was.
    """
    return window_starts_of(
        np.arange(len(history_start), dtype=np.int64), history_start, np.r_[0, np.cumsum(line_tokens)], window
    )


def window_starts_of(row: Int64, history_start: Int64, before: NDArray[np.integer], window: Window) -> Int64:
    """`window_starts` of some rows alone. history_start: of each of them. before: int [n + 1], tokens of all lines
    before each row of the table, from any beginning.
    """
    least = np.maximum(before[row].astype(np.int64) - window.max_history_tokens, before[0])
    # of another type all would be copied
    by_tokens = np.searchsorted(before, least.astype(before.dtype), side="left")
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
    asked = zip(_opened_questions(writer, part, rows), read_outs, strict=True)
    for offset, (_, read_out) in enumerate(asked):
        writer.chain(read_out.label_ids, weight=read_out.weight, part=0, item=item + offset)
        kept = read_out.kept
        if kept is not None:
            writer.kept_sample(
                kept.tree, kept.places, weight=kept.weight, reference=kept.reference, part=kept.part
            )


def write_prompts(writer: TreeWriter, part: TimelinePart, rows: Int64) -> list[int]:
    """Hang the prompts of one window below the open run. Returns the index of each prompt's last token."""
    return list(_opened_questions(writer, part, rows))


def window_tokens(part: TimelinePart, rows: Int64, labels: Int64) -> int:
    """Tokens that `write_window` lays out for these rows. labels: of each one's label and terminator, and of what else
    hangs below its prompt.
    """
    return int(windows_tokens(part, rows, labels, np.zeros(1, np.int64))[0])


def windows_tokens(part: TimelinePart, rows: Int64, labels: Int64, begins: Int64) -> Int64:
    """`window_tokens` of runs of ascending rows, each of one window, beginning at these places of `rows`; int64 [m]."""
    first, last = rows[begins], rows[np.append(begins[1:], len(rows)) - 1]
    start = part.window_start[first]
    lines = part.lines.offsets[last].astype(np.int64) - part.lines.offsets[start]
    own = np.add.reduceat(part.questions.lengths_of(rows) + labels - 1, begins)
    found: Int64 = lines + part.profiles.lengths_of(part.profile_row[first]) + own
    return found


def labels_with_terminator(prompt: PromptTokens) -> list[Int32]:
    """The tokens to be predicted for each name of the vocabulary."""
    return [np.concatenate([ids, prompt.terminator_ids]).astype(np.int32) for ids in prompt.label_ids]


def tokens_of_labels(prompt: PromptTokens) -> Int64:
    """The token ids that names and their terminator consist of, ascending; int64 [n]."""
    return np.unique(np.concatenate(labels_with_terminator(prompt))).astype(np.int64)


def _opened_questions(writer: TreeWriter, part: TimelinePart, rows: Int64) -> Iterator[int]:
    """Open the question of each row of one window in turn, below the profile and the lines that it shares with those
    before it. Gives the index of its last token; what is written until the next is asked for hangs below it.
    """
    writer.open(part.profiles[int(part.profile_row[rows[0]])])
    opened, at = 1, int(part.window_start[rows[0]])
    for row in rows.tolist():
        if row > at:  # as one run: nothing branches off between
            writer.open(part.lines.values[part.lines.offsets[at] : part.lines.offsets[row]])
            opened, at = opened + 1, row
        yield writer.open(part.questions[row])
        writer.close()
    for _ in range(opened):
        writer.close()


def _token_runs(column: pa.ChunkedArray) -> TokenRuns:
    array = one_chunk(column)
    return TokenRuns(array.values.to_numpy(), array.offsets.to_numpy())
