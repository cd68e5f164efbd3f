"""How many packs a tuning step is likely to have, told before it runs: a worker without one has nothing to do."""

from collections.abc import Sequence

import numpy as np

from behaviorlm.prompts.encoder import PromptTokens
from behaviorlm.timelines.parts import Int64, TimelinePart, labels_with_terminator, window_tokens
from behaviorlm.training.chunks import chunk_samples
from behaviorlm.training.packs import StepSchedule
from behaviorlm_ray.pipeline.tuning_plan import TuningPlan
from behaviorlm_ray.tuning.config import TuningConfig

LOOKED_AT = 2000
"""Samples of each part, at most, whose tokens are counted."""


def packs_a_step(
    parts: Sequence[TimelinePart],
    rows: Sequence[Int64],
    prompt: PromptTokens,
    config: TuningConfig,
    kept: float = 0.0,
) -> float:
    """About how many, from the first samples of each part; auxiliary conversations come on top. 0 without samples.

    kept: tokens of a sample on average that hold it to the base.
    """
    labels = np.array([len(label) for label in labels_with_terminator(prompt)], dtype=np.int64)
    few = [chosen[:LOOKED_AT] for chosen in rows]
    room = config.max_tokens - len(prompt.instruction_ids)

    def below(part: int, rows: Int64) -> Int64:
        tokens: Int64 = labels[parts[part].behavior[rows]]
        return tokens

    chunks = chunk_samples(parts, few, below, config.max_samples_per_timeline_per_step, room)
    tokens = sum(
        window_tokens(parts[chunk.part], chunk.rows, below(chunk.part, chunk.rows)) for chunk in chunks
    )
    samples = sum(len(chosen) for chosen in few)
    tokens += round(kept * samples)
    a_step = min(config.samples_per_step, sum(len(chosen) for chosen in rows))
    return tokens / samples * a_step / room if samples else 0.0


def idle_workers(packs: float, workers: int, tuning: TuningPlan) -> list[str]:
    """What to say where a step has fewer packs than there are workers: none or one line."""
    whole, config = max(1, int(np.ceil(packs))), tuning.config
    if whole >= workers:
        return []
    return [
        f"about {whole} pack(s) a step for {workers} workers (execution.tuning.workers), so {workers - whole} have "
        f"nothing to do: raise {tuning.key}.samples_per_step ({config.samples_per_step}) or lower "
        f"{tuning.key}.max_tokens ({config.max_tokens})"
    ]


def first_step_warnings(schedule: StepSchedule, workers: int, tuning: TuningPlan) -> list[str]:
    """`idle_workers` of the packs that the first step has; of this start alone, as a stage is the same with any."""
    return idle_workers(len(schedule.packs(0)), workers, tuning) if workers > 1 else []


def cap_warnings(schedule: StepSchedule, tuning: TuningPlan) -> list[str]:
    """What to say of samples that are in a step with more of their timeline than asked for: none or one line."""
    if not schedule.cap_exceeded:
        return []
    return [
        f"{schedule.cap_exceeded} samples are in a step with more than "
        f"{tuning.key}.max_samples_per_timeline_per_step ({tuning.config.max_samples_per_timeline_per_step}) of "
        "their timeline: too few timelines for such steps"
    ]
