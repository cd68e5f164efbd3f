"""The fixed, seeded order in which samples are trained on: which samples make up each optimizer step.

Samples of one history window stay together in chunks, so that their history is computed once; a cap on the samples
of one timeline in a step keeps steps diverse. Nothing here depends on the number of workers. (All of it is our
choice; the paper says nothing about batching.)
"""

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

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
class SampleSchedule:
    """The chunks of every step, the epoch each step belongs to, and how often the cap had to be exceeded."""

    steps: list[list[Chunk]]
    epochs: list[int]
    cap_exceeded: int

    def __len__(self) -> int:
        return len(self.steps)

    def chunks(self, step: int) -> list[Chunk]:
        """What a step is made of."""
        return self.steps[step]

    def samples(self, step: int) -> int:
        """Number of samples of a step."""
        return sum(len(chunk.rows) for chunk in self.steps[step])

    def all_samples(self) -> NDArray[np.int64]:
        """That of every step, int64[steps]."""
        return np.array([self.samples(step) for step in range(len(self.steps))], np.int64)

    def epoch(self, step: int) -> int:
        """The epoch a step belongs to, from 0."""
        return self.epochs[step]


def chunk_samples(
    parts: Sequence[TimelinePart],
    rows: Sequence[Int64],
    tokens_below: Callable[[int, Int64], Int64],
    max_samples: int,
    max_tokens: int,
) -> list[Chunk]:
    """Cut the chosen rows of each part into chunks of one window, at most `max_samples` and `max_tokens` each.

    tokens_below: of a part and rows of it int64 [rows], tokens that hang below each prompt (see `window_tokens`);
    max_tokens: room beside the instruction. Raises DataError for a sample that does not fit alone.
    """
    chunks = []
    for index, (part, chosen) in enumerate(zip(parts, rows, strict=True)):
        if not len(chosen):
            continue
        below = tokens_below(index, chosen)
        begin, end = _pieces(part.window_start[chosen], max_samples)
        tokens = windows_tokens(part, chosen, below, begin)
        users = part.user_start[chosen[begin]].tolist()
        for first, stop, size, user in zip(begin.tolist(), end.tolist(), tokens.tolist(), users, strict=True):
            if size <= max_tokens:
                timeline = (index, user) if part.segment < 1 else (index - part.segment, 0)
                chunks.append(Chunk(index, timeline, chosen[first:stop]))
            else:
                chunks += _fitting(index, part, chosen[first:stop], tokens_below, max_tokens)
    return chunks


def _pieces(window_start: Int64, most: int) -> tuple[Int64, Int64]:
    """Where pieces of at most so many samples of a window begin and end, as `np.array_split` cuts each window."""
    begins = np.flatnonzero(np.append(True, window_start[1:] != window_start[:-1]))
    sizes = np.diff(np.append(begins, len(window_start)))
    pieces = -(-sizes // most)
    place = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    lengths = np.repeat(sizes // pieces, pieces) + (place < np.repeat(sizes % pieces, pieces))
    end = np.cumsum(lengths)
    return end - lengths, end


def schedule_samples(
    chunks: Sequence[Chunk],
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
    total = sum(len(chunk.rows) for chunk in chunks)
    if total == 0:
        raise DataError("there is no sample to train on: widen the split or the selection")
    per_epoch = steps_per_epoch(total, samples_per_step)
    wanted = step_count(total, samples_per_step, epochs, max_steps)
    sizes = [len(part) for part in np.array_split(np.arange(total), per_epoch)]
    steps: list[list[Chunk]] = []
    epoch_of: list[int] = []
    exceeded = 0
    epoch = 0
    while len(steps) < wanted:
        order = np.random.default_rng([seed, epoch]).permutation(len(chunks))
        new, over = _fill([chunks[index] for index in order], sizes[: wanted - len(steps)], max_per_timeline)
        steps += new
        epoch_of += [epoch] * len(new)
        exceeded += over
        epoch += 1
    return SampleSchedule(steps, epoch_of, exceeded)


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
    for step in schedule.steps:
        for chunk in step:
            digest.update(parts[chunk.part].sample_id[chunk.rows].tobytes())
        digest.update(b"step")
    return digest.hexdigest()


def _fitting(
    index: int, part: TimelinePart, rows: Int64, tokens_below: Callable[[int, Int64], Int64], max_tokens: int
) -> list[Chunk]:
    tokens = window_tokens(part, rows, tokens_below(index, rows))
    if tokens <= max_tokens:
        before, start = part.timeline(int(rows[0]))
        return [Chunk(index, (index - before, start), rows)]
    if len(rows) == 1:
        raise DataError(
            f"a sample of {tokens} tokens does not fit into max_tokens beside the instruction ({max_tokens} left): "
            "raise max_tokens or lower prompt.max_events"
        )
    first, second = np.array_split(rows, 2)
    return [
        *_fitting(index, part, first, tokens_below, max_tokens),
        *_fitting(index, part, second, tokens_below, max_tokens),
    ]


def _fill(chunks: Sequence[Chunk], sizes: Sequence[int], cap: int) -> tuple[list[list[Chunk]], int]:
    """Take `sizes[k]` samples for step k from the row of chunks, passing over timelines that reached the cap.

    What is passed over keeps its place in the row; where only such timelines are left, their chunks are taken whole,
    and the rest of the last one goes to the end. Timelines wait in heaps by the place of their first chunk, so that a
    step costs what it takes and not what is left: with few timelines each step reaches the cap of all of them, and
    walking along the row made one user of a million events an hour's work.
    """
    waiting: dict[tuple[int, int], deque[tuple[int, Chunk]]] = {}
    for place, chunk in enumerate(chunks):
        waiting.setdefault(chunk.timeline, deque()).append((place, chunk))
    below_cap = [(row[0][0], timeline) for timeline, row in waiting.items()]
    end = len(chunks)
    steps = []
    exceeded = 0
    for size in sizes:
        step: list[Chunk] = []
        room = size
        used: Counter[tuple[int, int]] = Counter()
        at_cap: list[tuple[int, tuple[int, int]]] = []
        while room:
            over = not below_cap
            place, timeline = heappop(at_cap if over else below_cap)
            allowed = room if over else min(room, cap - used[timeline])
            if allowed <= 0:
                heappush(at_cap, (place, timeline))
                continue
            row = waiting[timeline]
            _, chunk = row.popleft()
            taken, rest = chunk.rows[:allowed], chunk.rows[allowed:]
            exceeded += len(taken) if over else 0
            step.append(Chunk(chunk.part, timeline, taken))
            used[timeline] += len(taken)
            room -= len(taken)
            if len(rest):
                left = Chunk(chunk.part, timeline, rest)
                if over:
                    row.append((end, left))
                    end += 1
                else:
                    row.appendleft((place, left))
            if row:
                heappush(at_cap if over else below_cap, (row[0][0], timeline))
        steps.append(step)
        for waits in at_cap:
            heappush(below_cap, waits)
    return steps, exceeded
