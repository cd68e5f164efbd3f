"""What carries out a tuning's steps, sharded or replicated, made ready with what they need beside it."""

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from behaviorlm.errors import ModelError
from behaviorlm.model.lm_head import causal_lm
from behaviorlm.model.precision import slowness
from behaviorlm.model.tree_model import TreeModel
from behaviorlm_ray.tuning.config import TuningConfig, TuningExecution
from behaviorlm_ray.tuning.failed_workers import announce
from behaviorlm_ray.tuning.gradient_watch import GradientWatch
from behaviorlm_ray.tuning.precision import keeps_masters
from behaviorlm_ray.tuning.replicated import Replicated
from behaviorlm_ray.tuning.sharded import Sharded, sharded
from behaviorlm_ray.tuning.utilization import ModelWork, model_work


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
        runner = sharded(model, config, execution, stage, low_precision)
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


def _set_parameters(model: TreeModel, read: Callable[[str, str], Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(read("parameter", name).view(parameter.shape))


def _possible_stage(model: TreeModel, stage: int) -> int:
    if stage == 3 and model.attention.kind == "plain":
        # how often the body runs then differs between workers, and ZeRO-3 gathers parameters at every run
        if dist.get_rank() == 0:
            announce("this model takes plain sequences, which ZeRO-3 cannot share out; ZeRO-2 is used")
        return 2
    return stage
