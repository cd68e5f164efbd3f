"""Some timelines that stand for a whole log, and the work that they make for a tuning and for scoring.

Token trees share prefixes, so tokens are fewer than samples times their lengths: how many there are is counted on packs
that the schedule itself makes of the timelines, and on trees as replicas have them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from behaviorlm.prompts.encoded_conversations import Conversation
from behaviorlm.prompts.encoder import PromptTokens
from behaviorlm.scoring.label_scoring import prompt_trees
from behaviorlm.timelines.parts import Int64, TimelinePart, window_tokens, write_prompts
from behaviorlm.training.packs import AuxiliaryConversations, Batching, StepSchedule
from behaviorlm.trees.token_tree import TreeWriter
from behaviorlm_ray.costs.operations import StepWork, step_work

MOST_ROWS = 10_000
"""Targets of a split that are looked at, over all parts."""
MOST_PARTS, MOST_WINDOWS, MOST_STEPS = 8, 400, 4
"""Of which packs and trees are made."""
FEWEST = 200
"""Targets that are drawn at least, however sparse they would be."""


@dataclass(frozen=True)
class LogSample:
    """parts, rows: some timelines, and by split the targets among them. is_anchor: bool[K]. conversation_tokens: of a
    conversation, by source. told: where it is from.

    Of the whole log: counts, float64[K], training targets of each behavior; targets, by split, those of validation and
    test; events; prepared_bytes.
    """

    parts: Sequence[TimelinePart]
    rows: Mapping[str, Sequence[Int64]]
    prompt: PromptTokens
    is_anchor: NDArray[np.bool_]
    counts: NDArray[np.float64]
    targets: Mapping[str, float]
    events: float
    prepared_bytes: float
    conversation_tokens: Mapping[str, float]
    told: str


@dataclass(frozen=True)
class SampledWork:
    """What so many samples, in packs, make: work, and read-outs of the largest pack."""

    samples: int
    packs: int
    work: StepWork
    read_outs: int


def few_of(parts: Sequence[TimelinePart], rows: Sequence[Int64]) -> tuple[list[TimelinePart], list[Int64]]:
    """Some parts, evenly spaced, and the first targets of each."""
    places = sorted({*np.linspace(0, len(parts) - 1, MOST_PARTS).round().astype(int).tolist()})
    most = MOST_ROWS // len(places)
    return [parts[place] for place in places], [rows[place][:most] for place in places]


def thinned(sample: LogSample, wanted: NDArray[np.float64]) -> list[Int64]:
    """Training targets of the sample, mixed and as sparse as `wanted`, float64[K], of each behavior are in the log.

    At least FEWEST, as far as there are any.
    """
    share = np.divide(wanted, sample.counts, out=np.zeros(len(wanted)), where=sample.counts > 0)
    found = [part.behavior[rows] for part, rows in zip(sample.parts, sample.rows["train"], strict=True)]
    expected = sum(float(share[behavior].sum()) for behavior in found)
    share = np.minimum(1.0, share * max(1.0, FEWEST / max(expected, 1e-9)))
    random = np.random.default_rng(0)
    return [
        rows[random.random(len(rows)) < share[behavior]]
        for rows, behavior in zip(sample.rows["train"], found, strict=True)
    ]


def thinned_evenly(sample: LogSample, split: str, wanted: float) -> list[Int64]:
    """Targets of a split in the sample, drawn as sparse as `wanted` are among all of the whole log."""
    here = sum(map(len, sample.rows[split]))
    share = max(wanted / max(sample.targets[split], 1), FEWEST / max(here, 1))
    random = np.random.default_rng(0)
    return [rows[random.random(len(rows)) < share] for rows in sample.rows[split]]


def tuning_work(
    sample: LogSample, rows: Sequence[Int64], batching: Batching, ratios: Mapping[str, float]
) -> SampledWork:
    """The first steps of an epoch over these targets. ratios: conversations for each sample, by source.

    Raises DataError where there is no target, or one does not fit into a pack.
    """
    there = sum(map(len, rows))
    batching = replace(
        batching, samples_per_step=max(1, min(batching.samples_per_step, there)), epochs=1.0, max_steps=None
    )
    auxiliary = [
        AuxiliaryConversations(name, ratio, 1.0, [_conversation(sample.conversation_tokens[name])])
        for name, ratio in ratios.items()
    ]
    schedule = StepSchedule(sample.parts, rows, sample.prompt, auxiliary, batching)
    steps = range(min(len(schedule), MOST_STEPS))
    packs = [pack for step in steps for pack in schedule.packs(step)]
    samples = sum(len(schedule.sample_ids(step)) for step in steps)
    return SampledWork(samples, len(packs), step_work(packs), max(len(pack.part) for pack in packs))


def scoring_work(sample: LogSample, rows: Sequence[Int64], windows_at_a_time: int) -> SampledWork:
    """Prompts of the first windows of these targets, in trees as a replica has them; without what comes after each."""
    work: list[tuple[int, int, int]] = []
    room = max(1, MOST_WINDOWS // max(1, len(sample.parts)))
    for part, chosen in zip(sample.parts, rows, strict=True):
        windows = [window for window, _ in zip(part.windows(chosen), range(room), strict=False)]
        for start in range(0, len(windows), windows_at_a_time):
            batch = windows[start : start + windows_at_a_time]
            sizes = [window_tokens(part, window, np.ones(len(window), np.int64)) for window in batch]
            for group in prompt_trees(sizes):
                writer = TreeWriter()
                writer.open(sample.prompt.instruction_ids)
                prompts = sum(len(write_prompts(writer, part, batch[index])) for index in group)
                writer.close()
                tree = writer.finish()
                work.append((prompts, len(tree), int(tree.depth.sum()) + len(tree)))
    prompts, tokens, pairs = np.array(work, np.int64).reshape(-1, 3).sum(axis=0).tolist()
    return SampledWork(prompts, len(work), StepWork(tokens, pairs, 0), 0)


def _conversation(tokens: float) -> Conversation:
    """Of so many tokens, half of them the assistant's."""
    length = max(2, round(tokens))
    return Conversation(np.zeros(length, np.int32), np.arange(length) >= length // 2, False)
