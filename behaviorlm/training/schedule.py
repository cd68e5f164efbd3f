"""The fixed, seeded order in which samples are trained on: which samples make up each optimizer step.

Samples of one history window stay together in chunks, so that their history is computed once; a cap on the samples
of one timeline in a step keeps steps diverse. Nothing here depends on the number of workers. (All of it is our
choice; the paper says nothing about batching.)
"""

import hashlib
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from behaviorlm.errors import DataError
from behaviorlm.timelines.parts import Int64, TimelinePart
from behaviorlm.training.chunks import Chunk, Chunks

STEPS_TOGETHER = 4096
"""Steps whose samples are looked at together (our choice)."""


@dataclass(frozen=True)
class SampleSchedule:
    """Which pieces of chunks make up each step, the epoch that each belongs to, and how often the cap was exceeded.

    piece, first, size: of each piece in the order of the steps, which chunk it is of, the first of its samples there,
    and how many; int64. ends: where each step's pieces end, int64[steps].
    """

    of: Chunks
    piece: Int64
    first: Int64
    size: Int64
    ends: Int64
    epochs: list[int]
    cap_exceeded: int

    def __len__(self) -> int:
        return len(self.ends)

    def chunks(self, step: int) -> list[Chunk]:
        """What a step is made of."""
        pieces = slice(int(self.ends[step - 1]) if step else 0, int(self.ends[step]))
        listed = (array[pieces].tolist() for array in (self.piece, self.first, self.size))
        return [self.of.piece(*one) for one in zip(*listed, strict=True)]

    def samples(self, step: int) -> int:
        """Number of samples of a step."""
        return int(self.size[int(self.ends[step - 1]) if step else 0 : int(self.ends[step])].sum())

    def pieces(self, steps: slice) -> "Pieces":
        """What some steps are made of."""
        before = self.ends[steps.start - 1] if steps.start else 0
        bounds = np.append(before, self.ends[steps])
        of = slice(int(bounds[0]), int(bounds[-1]))
        chunk, size = self.piece[of], self.size[of]
        ends = np.cumsum(size)
        begin = self.of.begin[chunk] + self.first[of] - (ends - size)
        return Pieces(
            chunk, bounds - bounds[0], ends, self.of.rows[np.repeat(begin, size) + np.arange(size.sum())]
        )

    def all_samples(self) -> Int64:
        """That of every step, int64[steps]."""
        done = np.cumsum(self.size)[self.ends - 1]
        return np.diff(done, prepend=0)

    def epoch(self, step: int) -> int:
        """The epoch a step belongs to, from 0."""
        return self.epochs[step]


@dataclass(frozen=True)
class Pieces:
    """Pieces of some steps, one after another; int64. chunk: which one each is of. bounds: where each step's begin, and
    the end. ends: where each piece's samples end in `rows`, those of all.
    """

    chunk: Int64
    bounds: Int64
    ends: Int64
    rows: Int64


def schedule_samples(
    chunks: Chunks,
    *,
    samples_per_step: int,
    max_per_timeline: int,
    epochs: float,
    max_steps: int | None,
    seed: int,
) -> SampleSchedule:
    """Order chunks into steps. Each sample of an epoch is in exactly one of its steps.

    An epoch of n samples has round(n / samples_per_step) steps (at least one) of nearly equal size. A step holds at
    most `max_per_timeline` samples of a timeline as long as other timelines are left; where none are, it takes them
    anyway and counts it. A fraction of an epoch is its first steps.
    """
    total = len(chunks.rows)
    if total == 0:
        raise DataError("there is no sample to train on: widen the split or the selection")
    per_epoch = steps_per_epoch(total, samples_per_step)
    wanted = step_count(total, samples_per_step, epochs, max_steps)
    least, larger = divmod(total, per_epoch)
    sizes = [least + 1] * larger + [least] * (per_epoch - larger)
    rows = int(chunks.timeline_row.max()) + 1
    _, timeline = np.unique(
        chunks.timeline_part.astype(np.int64) * rows + chunks.timeline_row, return_inverse=True
    )
    filled = _Filled()
    epoch_of: list[int] = []
    epoch = 0
    while len(epoch_of) < wanted:
        order = np.random.default_rng([seed, epoch]).permutation(len(chunks))
        of_epoch = sizes[: wanted - len(epoch_of)]
        _fill(order, timeline, chunks.end - chunks.begin, of_epoch, max_per_timeline, filled)
        epoch_of += [epoch] * len(of_epoch)
        epoch += 1
    piece, first, size, ends = (
        np.frombuffer(values, np.int64) for values in (filled.piece, filled.first, filled.size, filled.ends)
    )
    return SampleSchedule(chunks, piece, first, size, ends, epoch_of, filled.exceeded)


def steps_per_epoch(samples: int, samples_per_step: int) -> int:
    """Steps of one pass over so many samples; at least one."""
    return max(1, round(samples / samples_per_step))


def step_count(samples: int, samples_per_step: int, epochs: float, max_steps: int | None) -> int:
    """Steps of a whole schedule over so many samples; at least one."""
    wanted = max(1, round(epochs * steps_per_epoch(samples, samples_per_step)))
    return wanted if max_steps is None else min(wanted, max_steps)


def conversations_per_step(samples: Sequence[int] | Int64, ratio: float) -> NDArray[np.int64]:
    """How many conversations of a source each step gets: `ratio` per sample, spread evenly; int64 [steps]."""
    due = np.floor(np.cumsum(samples) * ratio + 1e-9).astype(np.int64)
    return np.diff(due, prepend=0)


def schedule_conversations(counts: Int64, available: int, seed: int) -> list[Int64]:
    """Which conversations each step gets: every pass over the source is a new permutation of all of it."""
    needed = int(np.sum(counts))
    passes = -(-needed // available) if available else 0
    order = [np.random.default_rng([seed, number]).permutation(available) for number in range(passes)]
    flat = np.concatenate(order)[:needed] if order else np.zeros(0, dtype=np.int64)
    return np.split(flat, np.cumsum(counts)[:-1])


def fit_packs(sizes: Sequence[int], room: int) -> list[list[int]]:
    """First-fit decreasing: indices of the items of each pack of at most `room` tokens; larger items go alone."""
    packs: list[list[int]] = []
    left: list[int] = []
    for index in sorted(range(len(sizes)), key=lambda item: (-sizes[item], item)):
        for pack, free in enumerate(left):
            if sizes[index] <= free:
                packs[pack].append(index)
                left[pack] -= sizes[index]
                break
        else:
            packs.append([index])
            left.append(room - sizes[index])
    return packs


def schedule_fingerprint(schedule: SampleSchedule, parts: Sequence[TimelinePart]) -> str:
    """SHA-256 over the sample ids in the order of their steps."""
    digest = hashlib.sha256()
    for begin in range(0, len(schedule), STEPS_TOGETHER):
        pieces = schedule.pieces(slice(begin, min(begin + STEPS_TOGETHER, len(schedule))))
        sizes = np.diff(pieces.ends, prepend=0)
        part = np.repeat(schedule.of.part[pieces.chunk], sizes)
        ids = np.empty((len(part), 16), np.uint8)
        together = np.argsort(part, kind="stable")
        numbers, begins = np.unique(part[together], return_index=True)
        for number, of_part in zip(numbers.tolist(), np.split(together, begins[1:]), strict=True):
            ids[of_part] = parts[number].sample_id[pieces.rows[of_part]]
        bounds = np.append(0, pieces.ends)[pieces.bounds].tolist()
        for first, last in pairwise(bounds):
            digest.update(ids[first:last].tobytes())
            digest.update(b"step")
    return digest.hexdigest()


class _Filled:
    """Pieces of the steps so far, see SampleSchedule."""

    def __init__(self) -> None:
        self.piece, self.first, self.size, self.ends = (array("q") for _ in range(4))
        self.exceeded = 0


def _fill(
    order: Int64, timeline: Int64, samples: Int64, sizes: Sequence[int], cap: int, filled: _Filled
) -> None:
    """Take `sizes[k]` samples for step k from the row of chunks, passing over timelines that reached the cap.

    What is passed over keeps its place in the row; where only such timelines are left, their chunks are taken whole,
    and the rest of the last one goes to the end. A step costs what it takes and not what is left: with few timelines
    each step reaches the cap of all of them, and walking along the row again and again made one user of a million
    events an hour's work.

    order: the chunk at each place of the row. timeline, samples: of each chunk.
    """
    row = _Row(order, timeline, samples)
    for size in sizes:
        room = size
        used: Counter[int] = Counter()
        at_cap: list[int] = []
        while room:
            place = row.next_place()
            over = place < 0
            if over:
                place = heappop(at_cap)
            of = row.timeline[place]
            allowed = room if over else min(room, cap - used[of])
            if allowed <= 0:
                heappush(at_cap, place)
                continue
            taken = min(allowed, row.left[place])
            filled.piece.append(row.chunk[place])
            filled.first.append(row.first[place])
            filled.size.append(taken)
            filled.exceeded += taken if over else 0
            used[of] += taken
            room -= taken
            following = row.take(place, taken, at_the_end=over)
            if following >= 0 and over:
                heappush(at_cap, following)
            elif following >= 0:
                row.put(following)
        filled.ends.append(len(filled.piece))
        for place in at_cap:
            row.put(place)


class _Row:
    """The row of chunks as arrays over its places: which chunk, of which timeline, its first sample that is left and
    how many are, and the next place of the same timeline (-1: none).

    The row is gone along once, so that what is read next lies in the cache; the first place of a timeline that was
    passed over waits in a heap, and those after it come by way of it.
    """

    def __init__(self, order: Int64, timeline: Int64, samples: Int64) -> None:
        of_place = timeline[order]
        together = np.argsort(of_place, kind="stable")
        is_same = of_place[together][1:] == of_place[together][:-1]
        following = np.full(len(order), -1, np.int64)
        following[together[:-1][is_same]] = together[1:][is_same]
        is_first = np.zeros(len(order), np.uint8)
        is_first[together[np.append(True, ~is_same)]] = 1
        self._is_first = bytearray(is_first.tobytes())
        # by timeline, whose numbers have no gaps
        self._last = _appendable(together[np.append(~is_same, True)])
        self.chunk, self.timeline = _appendable(order), _appendable(of_place)
        self.first, self.left = _appendable(np.zeros(len(order), np.int64)), _appendable(samples[order])
        self.following = _appendable(following)
        self._reached = 0
        self._waiting: list[int] = []

    def next_place(self) -> int:
        """Take the first place that is the first of its timeline out of the row; -1: there is none."""
        if self._waiting:
            return heappop(self._waiting)
        place = self._is_first.find(1, self._reached)
        self._reached = len(self._is_first) if place < 0 else place + 1
        return place

    def put(self, place: int) -> None:
        """Put the first place of a timeline into the row."""
        if place < self._reached:
            heappush(self._waiting, place)
        else:
            self._is_first[place] = 1

    def take(self, place: int, samples: int, at_the_end: bool) -> int:
        """Take samples of the chunk that is first of its timeline. Returns the place that is first now, -1 for none."""
        first, left, following = (
            self.first[place] + samples,
            self.left[place] - samples,
            self.following[place],
        )
        if not left:
            return following
        if not at_the_end:
            self.first[place], self.left[place] = first, left
            return place
        new, of = len(self.chunk), self.timeline[place]
        added = (self.chunk[place], of, first, left, -1)
        arrays = (self.chunk, self.timeline, self.first, self.left, self.following)
        for values, value in zip(arrays, added, strict=True):
            values.append(value)
        self._is_first.append(0)
        last, self._last[of] = self._last[of], new
        if following < 0:
            return new
        self.following[last] = new
        return following


def _appendable(values: Int64) -> "array[int]":
    found = array("q")
    found.frombytes(np.ascontiguousarray(values, np.int64).tobytes())
    return found
