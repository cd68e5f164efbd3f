"""What a tuning run is asked to do (identity), how it is carried out (execution), and the learning rate."""

import math
from typing import Any, Literal

from pydantic import Field, model_validator

from behaviorlm.config import Settings


class TuningConfig(Settings):
    """What determines the tuned weights. Every default is our choice; the paper's were not available."""

    learning_rate: float = Field(
        1e-3,
        gt=0,
        description="Peak learning rate of AdamW. 1e-3 is for tiny models; with LoRA on a large one try 1e-4 to 2e-4.",
    )
    epochs: float = Field(1.0, gt=0, description="Passes over the samples; a fraction stops within a pass.")
    max_steps: int | None = Field(
        None, ge=1, description="Upper limit of optimizer steps; null: none beyond epochs."
    )
    samples_per_step: int = Field(
        64, ge=1, description="Samples of one optimizer step, over all workers together."
    )
    max_samples_per_timeline_per_step: int = Field(
        2,
        ge=1,
        description="At most so many samples of one timeline in a step, so that a step is not one user. More share "
        "more tokens, and teach less where neighbors are alike (docs/results.md).",
    )
    max_tokens: int = Field(2048, ge=16, description="Tokens of one pack: what a worker computes at a time.")
    warmup_share: float = Field(
        0.05, ge=0, le=1, description="Share of the steps in which the rate rises linearly."
    )
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine",
        description="How the learning rate falls after the warm-up: to zero (cosine, linear) or not at all.",
    )
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay of AdamW.")
    clip_norm: float = Field(1.0, ge=0, description="Gradients are scaled down to this norm; 0: never.")
    betas: tuple[float, float] = Field((0.9, 0.999), description="Decay rates of AdamW's two moments.")
    epsilon: float = Field(1e-8, gt=0, description="Term that AdamW adds to the denominator.")
    seed: int = Field(0, ge=0, description="Seed of the sample order and of dropout, where it is asked for.")

    @model_validator(mode="after")
    def _betas_are_rates(self) -> "TuningConfig":
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must lie in [0, 1), not {self.betas}")
        return self


class KeepTail(Settings):
    """What A-Tuning on anchors leaves of the base's knowledge of the tail: ours, not the paper's."""

    weight: float = Field(
        1.0,
        gt=0,
        description="Weight, in the loss, of the divergence from the base among the tail behaviors: T^2 KL(q || p).",
    )
    temperature: float = Field(
        1.0,
        gt=0,
        description="T: q and p are the base's and the model's probabilities, normalized over the trie of names, "
        "to the power 1/T and renormalized over the tail.",
    )
    share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the samples that are held to the base; each costs the names' branching nodes on top. "
        "A larger share keeps those of a smaller one.",
    )
    seed: int = Field(0, ge=0, description="Seed of which samples are held.")


class ATuningConfig(TuningConfig):
    """A-Tuning: what any tuning has, and what it keeps of the tail."""

    keep_tail: KeepTail | None = Field(
        None, description="Whether samples are held to what the base says of the tail; null: none."
    )

    @property
    def common(self) -> TuningConfig:
        """What any tuning has."""
        return TuningConfig(**{name: getattr(self, name) for name in TuningConfig.model_fields})


class TuningExecution(Settings):
    """How tuning is carried out: changes where and how fast it runs, not what comes out."""

    workers: int = Field(2, ge=1, description="Ray Train workers, one process (and GPU) each.")
    min_workers: int | None = Field(
        None,
        ge=1,
        description="Start with as few workers as this when the cluster has no room for all; null: wait.",
    )
    resize_every_seconds: float = Field(
        60.0,
        ge=0,
        description="With min_workers: how often more workers are started where there is room by now. Each time "
        "tuning goes on from the newest checkpoint.",
    )
    zero_stage: Literal["auto", 0, 1, 2, 3] = Field(
        "auto",
        description="What DeepSpeed shards: 1 moments, 2 gradients too, 3 parameters too. 0: nothing is, and DeepSpeed "
        "is left out; fastest for LoRA, of which the first two save nothing. auto: the least that fits the memory of "
        "the workers' cards, or of their machine, as far as can be reckoned.",
    )
    zero_options: dict[str, Any] = Field(
        default_factory=dict,
        description="Further options of DeepSpeed's zero_optimization, as in its own config.",
    )
    activation_checkpointing: bool = Field(
        False,
        description="Recompute activations in the backward pass: a third more compute, far less memory.",
    )
    use_gpu: bool = Field(False, description="One GPU for each worker.")
    cpus_per_worker: int = Field(1, ge=1, description="CPU cores (and torch threads) of each worker.")
    checkpoint_every_steps: int | None = Field(
        None,
        ge=1,
        description="Optimizer steps between checkpoints; null: as many as make failures cost least, by Young's rule "
        "from the measured seconds of a step and of a checkpoint and from failure_every_seconds.",
    )
    failure_every_seconds: float = Field(
        1800.0,
        gt=0,
        description="How often a worker of the run is expected to be lost, for checkpoint_every_steps: null.",
    )
    keep_checkpoints: int = Field(
        2,
        ge=1,
        description="How many of the newest checkpoints are kept, beside the one that the run was continued from.",
    )
    max_failures: int = Field(3, ge=0, description="How often the workers are restarted after a failure.")
    max_preemptions: int | None = Field(
        None,
        ge=0,
        description="How often they are restarted because a machine was taken away after a notice, counted apart "
        "from failures; null: always.",
    )
    peak_teraflops: float | None = Field(
        None,
        gt=0,
        description="Peak of one worker's device in 10^12 operations a second, for the MFU in the log; null: of the "
        "GPU's data sheet where it is known, else no MFU.",
    )
    progress_every_seconds: float = Field(
        10.0, ge=0, description="Seconds between progress lines; 0: every step."
    )

    @model_validator(mode="after")
    def _fewer_at_least_than_at_most(self) -> "TuningExecution":
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(f"min_workers ({self.min_workers}) must not exceed workers ({self.workers})")
        reserved = {"stage"} & self.zero_options.keys()
        if reserved:
            raise ValueError("zero_options must not set 'stage': use zero_stage")
        if self.zero_options and self.zero_stage == 0:
            raise ValueError(
                "zero_options are DeepSpeed's, which zero_stage 0 leaves out: remove one of them"
            )
        return self


def learning_rate(step: int, steps: int, config: TuningConfig) -> float:
    """Learning rate of optimizer step `step` (from 0) of `steps`; the first one is above zero.

    Linear warm-up over ceil(warmup_share * steps) steps, then the chosen decay, which would reach zero at
    `steps`.
    """
    warmup = math.ceil(config.warmup_share * steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    match config.schedule:
        case "cosine":
            return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
        case "linear":
            return config.learning_rate * (1 - progress)
        case "constant":
            return config.learning_rate
