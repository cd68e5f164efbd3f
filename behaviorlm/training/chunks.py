"""Chunks of samples, by the million: in arrays, some 8 bytes a sample and 40 a chunk."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from behaviorlm.errors import DataError
from behaviorlm.timelines.parts import Int64, TimelinePart, window_tokens, windows_tokens


@dataclass(frozen=True)
class Chunk:
    """Samples of one window that are trained on together: ascending target rows of one part."""

    part: int
    timeline: tuple[int, int]
    rows: Int64


@dataclass(frozen=True)
class Chunks:
    """Chunk c: `rows[begin[c]:end[c]]` of `part[c]`, of the timeline that begins in `timeline_part[c]` at
    `timeline_row[c]`. rows: int64[samples]; the others int64[chunks], parts int32.
    """

    part: NDArray[np.int32]
    timeline_part: NDArray[np.int32]
    timeline_row: Int64
    begin: Int64
    end: Int64
    rows: Int64

    def __len__(self) -> int:
        return len(self.part)

    def __iter__(self) -> Iterator[Chunk]:
        return (self.piece(index, 0, None) for index in range(len(self)))

    def piece(self, index: int, first: int, samples: int | None) -> Chunk:
        """So many samples of a chunk from one of them on; None: all that follow."""
        start, end = int(self.begin[index]) + first, int(self.end[index])
        timeline = int(self.timeline_part[index]), int(self.timeline_row[index])
        stop = end if samples is None else start + samples
        return Chunk(int(self.part[index]), timeline, self.rows[start:stop])


_SHORT, _LONG = np.zeros(0, np.int32), np.zeros(0, np.int64)
_NONE = Chunks(_SHORT, _SHORT, _LONG, _LONG, _LONG, _LONG)


def chunk_samples(
    parts: Sequence[TimelinePart],
    rows: Sequence[Int64],
    tokens_below: Callable[[int, Int64], Int64],
    max_samples: int,
    max_tokens: int,
) -> Chunks:
    """Cut the chosen rows of each part into chunks of one window, at most `max_samples` and `max_tokens` each.

    tokens_below: of a part and rows of it int64 [rows], tokens that hang below each prompt (see `window_tokens`);
    max_tokens: room beside the instruction. Raises DataError for a sample that does not fit alone.
    """
    found: list[Chunks] = [_NONE]
    for index, (part, chosen) in enumerate(zip(parts, rows, strict=True)):
        if not len(chosen):
            continue
        below = tokens_below(index, chosen)
        begin, end = _pieces(part.window_start[chosen], max_samples)
        too_long = np.flatnonzero(windows_tokens(part, chosen, below, begin) > max_tokens)
        if len(too_long):
            cuts = [
                cut
                for place in too_long.tolist()
                for cut in _cuts(part, chosen, below, (int(begin[place]), int(end[place])), max_tokens)
            ]
            begin = np.sort(np.concatenate([begin, np.array(cuts, np.int64)]))
            end = np.append(begin[1:], len(chosen))
        before, start = part.timelines(chosen[begin])
        of_part = np.full(len(begin), index, np.int32)
        timeline_part = (of_part - before).astype(np.int32)
        found.append(Chunks(of_part, timeline_part, start, begin, end, chosen))
    return joined_chunks(found)


def joined_chunks(found: Sequence[Chunks]) -> Chunks:
    """Chunks one after another."""
    there = np.cumsum([0, *(len(one.rows) for one in found)])
    moved = [
        replace(one, begin=one.begin + before, end=one.end + before)
        for one, before in zip(found, there.tolist(), strict=False)
    ]
    names = (each.name for each in fields(Chunks))
    return Chunks(*(np.concatenate([getattr(one, name) for one in moved]) for name in names))


def _pieces(window_start: Int64, most: int) -> tuple[Int64, Int64]:
    """Where pieces of at most so many samples of a window begin and end, as `np.array_split` cuts each window."""
    begins = np.flatnonzero(np.append(True, window_start[1:] != window_start[:-1]))
    sizes = np.diff(np.append(begins, len(window_start)))
    pieces = -(-sizes // most)
    place = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    lengths = np.repeat(sizes // pieces, pieces) + (place < np.repeat(sizes % pieces, pieces))
    end = np.cumsum(lengths)
    return end - lengths, end


def _cuts(
    part: TimelinePart, chosen: Int64, below: Int64, piece: tuple[int, int], max_tokens: int
) -> list[int]:
    """Where to cut a piece into halves, and these again, until each fits."""
    begin, end = piece
    tokens = window_tokens(part, chosen[begin:end], below[begin:end])
    if tokens <= max_tokens:
        return []
    if end - begin == 1:
        raise DataError(
            f"a sample of {tokens} tokens does not fit into max_tokens beside the instruction ({max_tokens} left): "
            "raise max_tokens or lower prompt.max_events"
        )
    middle = begin + -(-(end - begin) // 2)
    return [
        middle,
        *_cuts(part, chosen, below, (begin, middle), max_tokens),
        *_cuts(part, chosen, below, (middle, end), max_tokens),
    ]
