"""ZeRO stage 0: every worker keeps all of the model, and gradients are summed once a step. Without DeepSpeed.

An adapter is a few megabytes, of which sharding saves nothing; what DeepSpeed does for each parameter and pack is then
a third of a step of a small base on a large GPU. The trained parameters are float32 and are their own masters.
"""

import os

import torch
import torch.distributed as dist
from torch import Tensor
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from behaviorlm.model.tree_model import PackTensors, TreeModel
from behaviorlm_ray.tuning.config import TuningConfig


class Replicated:
    """A model in training, with AdamW. State: its parameters, their gradients and moments."""

    def __init__(self, model: TreeModel, config: TuningConfig, use_gpu: bool) -> None:
        self.device = _own_device(use_gpu)
        self.module = model.to(self.device)
        self._clip_norm = config.clip_norm
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self._parameters,
            lr=config.learning_rate,
            betas=config.betas,
            eps=config.epsilon,
            weight_decay=config.weight_decay,
            fused=use_gpu,
        )

    def forward(self, pack: PackTensors) -> tuple[Tensor, Tensor, Tensor]:
        """What the model says of a pack."""
        found: tuple[Tensor, Tensor, Tensor] = self.module(pack)
        return found

    def backward(self, loss: Tensor, is_last: bool) -> None:
        """Add the gradients of a pack to those of the step."""
        loss.backward()

    def step(self, rate: float) -> float:
        """Sum gradients over the workers, clip them and move the parameters. Returns their norm before; collective."""
        gradients = []
        for parameter in self._parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        if dist.get_world_size() > 1:
            flat = _flatten_dense_tensors(gradients)
            dist.all_reduce(flat)
            torch._foreach_copy_(gradients, list(_unflatten_dense_tensors(flat, gradients)))
        norm = torch.nn.utils.get_total_norm(gradients)
        if self._clip_norm:
            torch.nn.utils.clip_grads_with_norm_(self._parameters, self._clip_norm, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=False)
        return float(norm)

    def close(self) -> None:
        """Nothing is held."""


def _own_device(use_gpu: bool) -> torch.device:
    """This worker's GPU among those that its process sees, or the CPU."""
    if not use_gpu:
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device
