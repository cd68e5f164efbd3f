"""What carries out a tuning's steps: DeepSpeed, with what it must be told and kept from, or nothing sharded at all."""

import logging
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from behaviorlm.errors import ModelError
from behaviorlm.model.lm_head import causal_lm
from behaviorlm.model.precision import slowness
from behaviorlm.model.tree_model import PackTensors, TreeModel
from behaviorlm_ray.tuning.config import TuningConfig, TuningExecution
from behaviorlm_ray.tuning.gradient_watch import GradientWatch
from behaviorlm_ray.tuning.precision import keeps_masters
from behaviorlm_ray.tuning.replicated import Replicated
from behaviorlm_ray.tuning.utilization import ModelWork, model_work


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


@dataclass
class TuningEngine:
    """What runs the steps, with what they need beside it; work: of its model, None where it is not known."""

    runner: Sharded | Replicated
    config: TuningConfig
    zero_stage: int
    names: dict[Tensor, str]
    gradients: GradientWatch
    dtype: str
    trainable_numel: int
    work: ModelWork | None

    @property
    def device(self) -> torch.device:
        return self.runner.device

    @property
    def tree_model(self) -> TreeModel:
        return self.runner.module


def prepare_process(execution: TuningExecution) -> None:
    """Settings of this process that must stand before DeepSpeed is imported."""
    torch.set_num_threads(execution.cpus_per_worker)
    if not execution.use_gpu:
        os.environ["DS_ACCELERATOR"] = "cpu"
    # DeepSpeed still uses these under their old names, some once a step and parameter
    for old in (".*torch.distributed.* is deprecated", ".*is_gradient_checkpointing.* is deprecated"):
        warnings.filterwarnings("ignore", message=old, category=FutureWarning)


def start_engine(
    model: TreeModel,
    config: TuningConfig,
    execution: TuningExecution,
    read: Callable[[str, str], Tensor] | None = None,
) -> TuningEngine:
    """Make a model ready for its steps. Needs an initialized torch.distributed; collective.

    read: gives a parameter of what is continued by ("parameter", name), flattened; None: the model is tuned as it is.
    float32 models train in float32; bfloat16 ones in bfloat16 with float32 masters, moments and accumulation.
    Raises ModelError for a model without trainable parameters, ConfigError for another dtype.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise ModelError("the model has no trainable parameter: add an adapter or choose full tuning")
    if read is not None:
        _set_parameters(model, read)
    dtypes = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    low_precision = keeps_masters(dtypes)
    trainable_numel = sum(parameter.numel() for parameter in trainable)
    if execution.activation_checkpointing:
        causal_lm(model.model).activation_checkpointing_enable({"use_reentrant": False})
    tokens = None if model.label_tokens is None else len(model.label_tokens)
    kept = 0 if model.kept_tail is None else len(model.kept_tail.among)
    work = model_work(model.model, tokens, kept)  # before parameters are sharded
    stage = _possible_stage(model, execution.zero_stage)
    runner: Sharded | Replicated
    if stage == 0:
        runner = Replicated(model, config, execution.use_gpu, low_precision)
    else:
        runner = _sharded(model, config, execution, stage, low_precision)
    runner.module.train()
    names: dict[Tensor, str] = {
        parameter: name for name, parameter in runner.module.named_parameters() if parameter.requires_grad
    }
    gradients = GradientWatch(runner.device)
    for parameter in names:
        parameter.register_hook(gradients.add)
    dtype = "bfloat16 with float32 masters" if low_precision else "float32"
    if low_precision and (told := slowness("bfloat16", execution.use_gpu)):
        announce(told)
    return TuningEngine(runner, config, stage, names, gradients, dtype, trainable_numel, work)


def _sharded(
    model: TreeModel, config: TuningConfig, execution: TuningExecution, stage: int, low_precision: bool
) -> Sharded:
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


def _set_parameters(model: TreeModel, read: Callable[[str, str], Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(read("parameter", name).view(parameter.shape))


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


def announce(message: str) -> None:
    """Tell the user; Ray forwards it to the driver. (Ray Train shows what is printed by `print` twice.)"""
    sys.stdout.write(f"tuning: {message}\n")
    sys.stdout.flush()
