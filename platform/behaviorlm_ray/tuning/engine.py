"""The DeepSpeed engine, and one optimizer step over the packs of a step.

A step's gradient is the sum over its packs, whoever computes them: worker r takes packs r, r + W, …; one that
is left without a pack runs an empty one, so that all take part in the same collectives. DeepSpeed averages
over workers, which is undone by scaling the loss.
"""

import logging
import os
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from behaviorlm.errors import ModelError
from behaviorlm.model.tree_model import TreeModel, causal_lm, pack_tensors
from behaviorlm.training.packs import empty_pack
from behaviorlm.trees.token_tree import TokenTree
from behaviorlm_ray.tuning.config import TuningConfig, TuningExecution, learning_rate
from behaviorlm_ray.tuning.precision import keeps_masters


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


@dataclass
class TuningEngine:
    """A DeepSpeed engine with what a step needs beside it."""

    deepspeed: Any
    config: TuningConfig
    zero_stage: int
    names: dict[Tensor, str]
    non_finite: Tensor
    dtype: str
    trainable_numel: int

    @property
    def device(self) -> torch.device:
        return self.deepspeed.device

    @property
    def tree_model(self) -> TreeModel:
        return self.deepspeed.module


def prepare_process(execution: TuningExecution) -> None:
    """Settings of this process that must stand before DeepSpeed is imported."""
    torch.set_num_threads(execution.cpus_per_worker)
    if not execution.use_gpu:
        os.environ["DS_ACCELERATOR"] = "cpu"
    # DeepSpeed still uses these under their old names, some once a step and parameter
    for old in (".*torch.distributed.* is deprecated", ".*is_gradient_checkpointing.* is deprecated"):
        warnings.filterwarnings("ignore", message=old, category=FutureWarning)


def start_engine(model: TreeModel, config: TuningConfig, execution: TuningExecution) -> TuningEngine:
    """Hand a model to DeepSpeed. Needs an initialized torch.distributed; collective.

    float32 models train in float32; bfloat16 ones in bfloat16 with float32 masters, moments and accumulation.
    Raises ModelError for a model without trainable parameters, ConfigError for another dtype and where ZeRO
    cannot.
    """
    import deepspeed

    deepspeed.utils.logger.setLevel(logging.WARNING)
    # It would compile an extension at first use (64 s in place of 5), and a worker killed meanwhile leaves a lock on
    # which later runs hang.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise ModelError("the model has no trainable parameter: add an adapter or choose full tuning")
    dtypes = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    low_precision = keeps_masters(dtypes, execution.zero_stage)
    trainable_numel = sum(parameter.numel() for parameter in trainable)
    if execution.activation_checkpointing:
        causal_lm(model.model).activation_checkpointing_enable({"use_reentrant": False})
    stage = _possible_stage(model, execution.zero_stage)
    engine, _, _, _ = deepspeed.initialize(
        model=model,
        model_parameters=trainable,
        config=_deepspeed_config(config, execution, stage, low_precision, trainable_numel),
    )
    if stage == 3:
        _keep_head_gathered(engine)
    engine.module.train()
    names = {
        parameter: name for name, parameter in engine.module.named_parameters() if parameter.requires_grad
    }
    non_finite = torch.zeros((), dtype=torch.bool, device=engine.device)
    for parameter in names:
        parameter.register_hook(lambda gradient: _flag_non_finite(non_finite, gradient))
    dtype = "bfloat16 with float32 masters" if low_precision else "float32"
    return TuningEngine(engine, config, stage, names, non_finite, dtype, trainable_numel)


def run_step(engine: TuningEngine, packs: Sequence[TokenTree], step: int, steps: int) -> StepOutcome:
    """One optimizer step over `packs`, the same list on every worker; collective.

    Raises NotFiniteError on every worker, before the optimizer moves, where a loss or gradient is not finite.
    """
    started = time.perf_counter()
    rank, world = dist.get_rank(), dist.get_world_size()
    module = engine.tree_model
    rounds = -(-len(packs) // world)
    engine.non_finite.fill_(False)
    # parts of the loss, samples, tokens, whether anything was not finite
    totals = torch.zeros(module.parts + 3, dtype=torch.float64, device=engine.device)
    for micro_step in range(rounds):
        index = micro_step * world + rank
        pack = packs[index] if index < len(packs) else empty_pack()
        torch.manual_seed(pack_seed(engine.config.seed, step, index))
        engine.deepspeed.set_gradient_accumulation_boundary(micro_step == rounds - 1)
        loss, parts, _ = engine.deepspeed(pack_tensors(pack, engine.device))
        engine.deepspeed.backward(loss * world, scale_wrt_gas=False)
        if index < len(packs):
            totals[: module.parts] += parts.double()
            totals[module.parts] += len(np.unique(pack.item[pack.part == 0]))
            totals[module.parts + 1] += len(pack)
    totals[module.parts + 2] = engine.non_finite
    dist.all_reduce(totals)
    *part_sums, samples, tokens, non_finite = totals.tolist()
    if non_finite or not np.isfinite(part_sums).all():
        raise NotFiniteError(
            f"step {step + 1} of {steps}: loss or gradient is not finite (loss by part: {part_sums}). The "
            "weights were not changed. Lower this tuning's learning_rate (a_tuning.learning_rate, "
            "b_tuning.learning_rate or one_stage.learning_rate), or check the base model's dtype"
        )
    rate = learning_rate(step, steps, engine.config)
    for group in engine.deepspeed.basic_optimizer.param_groups:
        group["lr"] = rate
    engine.deepspeed.step()
    return StepOutcome(
        loss=sum(part_sums),
        parts=part_sums,
        samples=int(samples),
        tokens=int(tokens),
        gradient_norm=_gradient_norm(engine),
        learning_rate=rate,
        seconds=time.perf_counter() - started,
    )


def pack_seed(seed: int, step: int, pack: int) -> int:
    """Seed of dropout for one pack; follows from the position in the schedule, not from who computes it."""
    return int(np.random.SeedSequence([seed, step, pack]).generate_state(1, np.uint64)[0] >> 1)


def _deepspeed_config(
    config: TuningConfig, execution: TuningExecution, stage: int, low_precision: bool, trainable: int
) -> dict[str, Any]:
    bucket = min(max(2, trainable + trainable % 2), 100_000_000)  # buffers are allocated whole; must be even
    result: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,  # boundaries are set by hand: steps differ in their number of packs
        "steps_per_print": None,
        "gradient_clipping": config.clip_norm,
        "optimizer": {
            "type": "AdamW",
            "params": {
                "lr": config.learning_rate,
                "betas": list(config.betas),
                "eps": config.epsilon,
                "weight_decay": config.weight_decay,
                "torch_adam": True,  # DeepSpeed's own is compiled at first use
            },
        },
        "zero_optimization": {
            "stage": stage,
            "reduce_bucket_size": bucket,
            "allgather_bucket_size": bucket,
            "overlap_comm": False,
            **execution.zero_options,
        },
    }
    if low_precision:
        result["bf16"] = {"enabled": True}
        result["data_types"] = {"grad_accum_dtype": "fp32"}
    return result


def _possible_stage(model: TreeModel, stage: int) -> int:
    if stage == 3 and model.attention.kind == "plain":
        # how often the body runs then differs between workers, and ZeRO-3 gathers parameters at every run
        if dist.get_rank() == 0:
            announce("this model takes plain sequences, which ZeRO-3 cannot share out; ZeRO-2 is used")
        return 2
    return stage


def _keep_head_gathered(engine: Any) -> None:
    """Keep the LM head's parameters whole under ZeRO-3, and its module out of DeepSpeed's sight.

    The head runs once for every slice of read-outs, so its number of runs differs between workers. DeepSpeed
    gathers at each run, and prefetches along the order of runs that it has seen: the workers' collectives
    would no longer match.
    """
    head = causal_lm(engine.module.model).get_output_embeddings()
    for module in head.modules():
        module._forward_pre_hooks.clear()
        module._forward_hooks.clear()
    persistent = engine.optimizer.persistent_parameters  # gathered again after each step
    known = {id(parameter) for parameter in persistent}
    parameters = list(head.parameters())
    for parameter in parameters:
        parameter.ds_persist = True
        if id(parameter) not in known:
            persistent.append(parameter)
    parameters[0].all_gather(parameters)


def _flag_non_finite(flag: Tensor, gradient: Tensor) -> None:
    # NaN and infinities come through a sum; one that only the sum reaches, the gradient's norm would reach too
    flag.logical_or_(torch.logical_not(torch.isfinite(gradient.sum())))


def _gradient_norm(engine: TuningEngine) -> float:
    norm = engine.deepspeed.get_global_grad_norm()
    return float("nan") if norm is None else float(norm)


def announce(message: str) -> None:
    """Tell the user; Ray forwards it to the driver. (Ray Train shows what is printed by `print` twice.)"""
    sys.stdout.write(f"tuning: {message}\n")
    sys.stdout.flush()
