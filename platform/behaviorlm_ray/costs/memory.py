"""Memory of a tuning worker before it runs, and which ZeRO stage that lets it have.

Formulas are of what the engine holds: ZeRO (arXiv 1910.02054, section 5) with this project's masters and sums.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from behaviorlm.model.lm_head import HEAD_ROWS
from behaviorlm_ray.costs.model_sizes import ModelSizes

USABLE = 0.9
"""Of a card's memory: the rest is the driver's context, fragments and attention's masks (our choice)."""

LOGIT_BYTES = 12
"""Of each logit that is being read out: in the head's numbers, in float32, and the gradients of both."""

ZeroStage = Literal[0, 1, 2, 3]
STAGES: Sequence[ZeroStage] = (0, 1, 2, 3)


@dataclass(frozen=True)
class Passing:
    """A pack on its way through a model. tokens, read_outs: of it. head_rows: of the head that a read-out takes.
    is_recomputed: whether activations are made anew in the backward pass.
    """

    tokens: int
    read_outs: int
    head_rows: int
    is_recomputed: bool


@dataclass(frozen=True)
class WorkerMemory:
    """Bytes of one worker. optimizer: masters and moments. passing: the largest of what comes and goes, which is
    activations and logits, or gradients of a pack, or a checkpoint's largest tensor.
    """

    weights: float
    optimizer: float
    gradients: float
    passing: float

    @property
    def total(self) -> float:
        """At the peak."""
        return self.weights + self.optimizer + self.gradients + self.passing


def activations(sizes: ModelSizes, passing: Passing) -> float:
    """Bytes that a pack leaves for its backward pass; recomputed: what goes into each layer, and one layer's own."""
    kept = sizes.kept or 0.0
    if passing.is_recomputed:
        kept = sizes.layers * sizes.width * sizes.bytes + kept / sizes.layers
    logits = min(passing.read_outs, HEAD_ROWS) * passing.head_rows * LOGIT_BYTES
    return passing.tokens * kept + logits


def worker_memory(sizes: ModelSizes, stage: ZeroStage, workers: int, passing: Passing) -> WorkerMemory:
    """Of each of so many workers. Weights in two bytes have float32 masters; gradients are summed in float32.

    Stage 1 shards masters and moments, 2 sums of gradients too, 3 weights too, of which a layer and the head are there.
    """
    low = sizes.bytes < 4
    share = [1 if stage < least else workers for least in (3, 1, 2)]
    weights = sizes.weights * sizes.bytes / share[0]
    if stage == 3 and workers > 1:
        weights += sizes.bytes * (sizes.weights / sizes.layers + sizes.vocabulary * sizes.width)
    optimizer = sizes.trainable * (12 if low else 8) / share[1]
    gradients = sizes.trainable * 4 / share[2]
    # in low precision a pack's gradients, and a copy of them in float32
    of_pack = sizes.trainable * ((sizes.bytes + 4) if low else 0)
    checkpoint = 12 * sizes.largest
    return WorkerMemory(
        weights, optimizer, gradients, max(activations(sizes, passing), of_pack, float(checkpoint))
    )


def checkpoint_bytes(sizes: ModelSizes) -> int:
    """Of a checkpoint, on disk and while it is written in worker 0's own memory: weights and moments in float32."""
    return 12 * sizes.trainable


@dataclass(frozen=True)
class ChosenStage:
    """A ZeRO stage, and why."""

    stage: ZeroStage
    reason: str


def choose_stage(
    sizes: ModelSizes, workers: int, passing: Passing, gib: float, least: ZeroStage = 0
) -> ChosenStage:
    """The first from `least` on that fits into `gib` GiB a worker: what is sharded has to be sent (our choice)."""
    needed = {stage: worker_memory(sizes, stage, workers, passing).total / 2**30 for stage in STAGES}
    if workers == 1:
        return ChosenStage(
            least, f"one worker has nothing to share out; {needed[least]:.1f} of {gib:.1f} GiB"
        )
    for stage in STAGES[least:]:
        if needed[stage] <= USABLE * gib:
            before = "" if stage == least else f"; stage {stage - 1} takes {needed[STAGES[stage - 1]]:.1f}"
            return ChosenStage(stage, f"{needed[stage]:.1f} of {gib:.1f} GiB a worker{before}")
    return ChosenStage(3, f"none fits: it takes {needed[3]:.1f} of {gib:.1f} GiB a worker")
