"""ZeRO stages 1 to 3: DeepSpeed shards moments, gradients and parameters over the workers."""

import logging
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from behaviorlm.model.lm_head import causal_lm
from behaviorlm.model.tree_model import PackTensors, TreeModel
from behaviorlm_ray.tuning.config import TuningConfig, TuningExecution


class Sharded:
    """A DeepSpeed engine, as a step uses it."""

    def __init__(self, deepspeed: Any) -> None:
        self.deepspeed, self.optimizer = deepspeed, deepspeed.basic_optimizer
        self.device: torch.device = deepspeed.device
        self.module: TreeModel = deepspeed.module

    def forward(self, pack: PackTensors) -> tuple[Tensor, Tensor, Tensor]:
        """What the model says of a pack."""
        found: tuple[Tensor, Tensor, Tensor] = self.deepspeed(pack)
        return found

    def backward(self, loss: Tensor, is_last: bool) -> None:
        """Add the gradients of a pack to those of the step; is_last: of this worker's packs. Collective."""
        self.deepspeed.set_gradient_accumulation_boundary(is_last)
        # DeepSpeed averages over workers
        self.deepspeed.backward(loss * dist.get_world_size(), scale_wrt_gas=False)

    def step(self, rate: float) -> float:
        """Clip the gradients and move the parameters. Returns their norm, NaN where it is not told; collective."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.deepspeed.step()
        norm = self.deepspeed.get_global_grad_norm()
        return float("nan") if norm is None else float(norm)

    def close(self) -> None:
        """Its hooks hold the model in a circle that garbage collection does not see."""
        self.deepspeed.destroy()


def sharded(
    model: TreeModel, config: TuningConfig, execution: TuningExecution, stage: int, low_precision: bool
) -> Sharded:
    """A model made ready by DeepSpeed at ZeRO stage 1, 2 or 3, with what it must be told and kept from; collective."""
    import deepspeed

    deepspeed.utils.logger.setLevel(logging.WARNING)
    # It would compile an extension at first use (64 s in place of 5), and a worker killed meanwhile leaves a lock on
    # which later runs hang.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    numel = sum(parameter.numel() for parameter in trainable)
    engine, _, _, _ = deepspeed.initialize(
        model=model,
        model_parameters=trainable,
        config=_deepspeed_config(config, execution, stage, low_precision, numel),
    )
    if stage == 3:
        _keep_head_gathered(engine)
    return Sharded(engine)


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
