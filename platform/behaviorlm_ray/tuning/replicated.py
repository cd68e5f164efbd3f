"""ZeRO stage 0: every worker keeps all of the model, and gradients are summed once a step. Without DeepSpeed.

An adapter is a few megabytes, of which sharding saves nothing; what DeepSpeed does for each parameter and pack is then
a third of a step of a small base on a large GPU.
"""

import torch
import torch.distributed as dist
from torch import Tensor
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from behaviorlm.model.gpu import own_gpu
from behaviorlm.model.tree_model import PackTensors, TreeModel
from behaviorlm_ray.tuning.config import TuningConfig


class Replicated:
    """A model in training, with AdamW. State: its parameters, their masters, gradients and moments.

    masters: what the optimizer moves, float32: the parameters themselves, or beside bfloat16 ones tensors of their own.
    """

    def __init__(self, model: TreeModel, config: TuningConfig, use_gpu: bool, low_precision: bool) -> None:
        self.device = own_gpu() if use_gpu else torch.device("cpu")
        self.module = model.to(self.device)
        self._clip_norm = config.clip_norm
        self._parameters: list[Tensor] = [
            parameter for parameter in model.parameters() if parameter.requires_grad
        ]
        self.masters: list[Tensor] = [*self._parameters]
        if low_precision:
            self.masters = [parameter.detach().float().clone() for parameter in self._parameters]
            for parameter in self._parameters:
                parameter.data = parameter.data.to(torch.bfloat16)
        for master in self.masters:
            master.grad = torch.zeros_like(master)
        self.optimizer = torch.optim.AdamW(
            self.masters,
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
        if self._has_own_masters:
            sums, gradients = [], []
            for master, parameter in zip(self.masters, self._parameters, strict=True):
                if master.grad is not None and parameter.grad is not None:
                    sums.append(master.grad)
                    gradients.append(parameter.grad)
                parameter.grad = None
            of_pack = [torch.empty_like(total) for total in sums]
            torch._foreach_copy_(of_pack, gradients)
            torch._foreach_add_(sums, of_pack)

    def step(self, rate: float) -> float:
        """Sum gradients over the workers, clip them and move the parameters. Returns their norm before; collective."""
        gradients = [master.grad for master in self.masters if master.grad is not None]
        if dist.get_world_size() > 1:
            flat = _flatten_dense_tensors(gradients)
            dist.all_reduce(flat)
            torch._foreach_copy_(gradients, list(_unflatten_dense_tensors(flat, gradients)))
        norm = torch.nn.utils.get_total_norm(gradients)
        if self._clip_norm:
            torch.nn.utils.clip_grads_with_norm_(self.masters, self._clip_norm, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        torch._foreach_zero_(gradients)
        if self._has_own_masters:
            with torch.no_grad():
                torch._foreach_copy_(self._parameters, self.masters)
        return float(norm)

    def close(self) -> None:
        """Nothing is held."""

    @property
    def _has_own_masters(self) -> bool:
        return self.masters[0] is not self._parameters[0]
