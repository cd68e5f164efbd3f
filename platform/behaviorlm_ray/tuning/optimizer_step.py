"""One optimizer step over the packs of a step.

A step's gradient is the sum over its packs, whoever computes them: worker r takes packs r, r + W, …; one that
is left without a pack runs an empty one, so that all take part in the same collectives.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist

from behaviorlm.errors import ModelError
from behaviorlm.model.tree_model import pack_tensors
from behaviorlm.training.packs import empty_pack
from behaviorlm.trees.token_tree import TokenTree
from behaviorlm_ray.tuning.config import learning_rate
from behaviorlm_ray.tuning.engine import TuningEngine


class NotFiniteError(ModelError):
    """A loss or gradient was not finite; raised on all workers alike, so that none waits for another."""


@dataclass(frozen=True)
class StepOutcome:
    """What one optimizer step did, over all workers.

    loss: the step's weighted loss before the update; parts: the same by part of the loss; samples and tokens:
    how many were run, summed over the packs; gradient_norm: before clipping, NaN where the engine does not
    tell it.
    """

    loss: float
    parts: list[float]
    samples: int
    tokens: int
    gradient_norm: float
    learning_rate: float
    seconds: float


def run_step(engine: TuningEngine, packs: Sequence[TokenTree], step: int, steps: int) -> StepOutcome:
    """One optimizer step over `packs`, the same list on every worker; collective.

    Raises NotFiniteError on every worker, before the optimizer moves, where a loss or gradient is not finite.
    """
    started = time.perf_counter()
    rank, world = dist.get_rank(), dist.get_world_size()
    module = engine.tree_model
    rounds = -(-len(packs) // world)
    engine.gradients.clear()
    # parts of the loss, samples, tokens, whether anything was not finite
    totals = torch.zeros(module.parts + 3, dtype=torch.float64, device=engine.device)
    for micro_step in range(rounds):
        index = micro_step * world + rank
        pack = packs[index] if index < len(packs) else empty_pack()
        torch.manual_seed(pack_seed(engine.config.seed, step, index))
        loss, parts, _ = engine.runner.forward(pack_tensors(pack, engine.device))
        engine.runner.backward(loss, is_last=micro_step == rounds - 1)
        non_finite = engine.gradients.look()  # before anything is added to them
        if index < len(packs):
            totals[: module.parts] += parts.double()
            totals[module.parts] += len(np.unique(pack.item[pack.part == 0]))
            totals[module.parts + 1] += len(pack)
    totals[module.parts + 2] = non_finite
    dist.all_reduce(totals)
    *part_sums, samples, tokens, is_wrong = totals.tolist()
    if is_wrong or not np.isfinite(part_sums).all():
        told = ", ".join(f"{part:.4g}" for part in part_sums)
        raise NotFiniteError(
            f"step {step + 1} of {steps}: loss or gradient is not finite (loss by part: {told}). The "
            "weights were not changed. Lower this tuning's learning_rate (a_tuning.learning_rate, "
            "b_tuning.learning_rate or one_stage.learning_rate), or check the base model's dtype"
        )
    rate = learning_rate(step, steps, engine.config)
    norm = engine.runner.step(rate)
    return StepOutcome(
        loss=sum(part_sums),
        parts=part_sums,
        samples=int(samples),
        tokens=int(tokens),
        gradient_norm=norm,
        learning_rate=rate,
        seconds=time.perf_counter() - started,
    )


def pack_seed(seed: int, step: int, pack: int) -> int:
    """Seed of dropout for one pack; follows from the position in the schedule, not from who computes it."""
    return int(np.random.SeedSequence([seed, step, pack]).generate_state(1, np.uint64)[0] >> 1)
