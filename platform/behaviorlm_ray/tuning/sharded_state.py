"""Parameters and Adam's moments behind the four ways of sharding them, by name and as plain tensors.

Everything here addresses *fragments*: the elements [start, start + length) of a flattened parameter that this
worker keeps, and where they lie in the flat tensor that the optimizer updates. Gathering sums fragments over
workers, and restoring fills the local ones, so neither depends on the number of workers nor on divisible
sizes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from behaviorlm_ray.tuning.engine import TuningEngine
from behaviorlm_ray.tuning.replicated import Replicated
from behaviorlm_ray.tuning.sharded import Sharded

MOMENTS = ("exp_avg", "exp_avg_sq")
KINDS = ("parameter", *MOMENTS)


@dataclass(frozen=True)
class Fragment:
    """What this worker keeps of one trainable parameter; `length` may be 0.

    flat: the tensor the optimizer updates (float32); offset: where the fragment begins in it.
    """

    name: str
    shape: tuple[int, ...]
    numel: int
    start: int
    length: int
    flat: Tensor
    offset: int

    def view(self, of: Tensor) -> Tensor:
        """The fragment's elements in `flat` or in a moment of its layout."""
        return of.view(-1).narrow(0, self.offset, self.length)


def fragments(engine: TuningEngine) -> Iterator[Fragment]:
    """This worker's fragment of every trainable parameter, in the model's order, the same on all workers."""
    groups = engine.runner.optimizer.param_groups
    for place, (parameter, name) in enumerate(engine.names.items()):
        if engine.zero_stage == 3:
            yield _partitioned(engine, parameter, name)
        elif isinstance(engine.runner, Replicated):
            master = engine.runner.masters[place]
            yield Fragment(name, tuple(parameter.shape), parameter.numel(), 0, parameter.numel(), master, 0)
        else:
            mapping = parameter._hp_mapping  # type: ignore[attr-defined]
            flat = groups[0]["params"][0]
            if mapping is None:
                yield Fragment(name, tuple(parameter.shape), parameter.numel(), 0, 0, flat, 0)
            else:
                kept, placed = mapping.lp_fragment_address, mapping.hp_fragment_address
                yield Fragment(
                    name,
                    tuple(parameter.shape),
                    parameter.numel(),
                    kept.start,
                    kept.numel,
                    flat,
                    placed.start,
                )


def gather(engine: TuningEngine) -> dict[str, dict[str, Tensor]]:
    """All parameters (float32 masters) and moments on worker 0, flattened, on the CPU; collective.

    Returns {kind: {name: float32 [numel]}} for KINDS on worker 0 and empty dictionaries elsewhere. Moments
    are zero before the first step.
    """
    gathered: dict[str, dict[str, Tensor]] = {kind: {} for kind in KINDS}
    contributes = engine.zero_stage > 0 or dist.get_rank() == 0  # ZeRO-0 replicates: count one worker only
    for fragment in fragments(engine):
        whole = torch.zeros(len(KINDS), fragment.numel, dtype=torch.float32, device=fragment.flat.device)
        state = engine.runner.optimizer.state.get(fragment.flat, {})
        if fragment.length and contributes:
            target = whole.narrow(1, fragment.start, fragment.length)
            target[0] = fragment.view(fragment.flat.detach())
            for row, moment in enumerate(MOMENTS, start=1):
                if moment in state:
                    target[row] = fragment.view(state[moment])
        dist.reduce(whole, dst=0)
        if dist.get_rank() == 0:
            for kind, values in zip(KINDS, whole.cpu(), strict=True):
                gathered[kind][fragment.name] = values.clone()
    return gathered


def restore(engine: TuningEngine, read: Callable[[str, str], Tensor], steps: int) -> None:
    """Set the local fragments of masters and moments, and Adam's step count.

    read(kind, name) gives the whole flattened float32 tensor. The model's own (rounded) parameters were set when the
    engine was started.
    """
    groups = engine.runner.optimizer.param_groups
    for fragment in fragments(engine):
        state = engine.runner.optimizer.state[fragment.flat]
        if not state:
            # a fused optimizer has it on the device
            device = fragment.flat.device if groups[0].get("fused") else None
            state["step"] = torch.tensor(float(steps), device=device)
            state.update({moment: torch.zeros_like(fragment.flat.detach()) for moment in MOMENTS})
        if fragment.length == 0:
            continue
        for kind in KINDS:
            target = fragment.flat.detach() if kind == "parameter" else state[kind]
            values = read(kind, fragment.name)[fragment.start : fragment.start + fragment.length]
            fragment.view(target).copy_(values)


def _partitioned(engine: TuningEngine, parameter: Tensor, name: str) -> Fragment:
    """ZeRO-3: equal shares of each parameter, the last ones padded or empty."""
    assert isinstance(engine.runner, Sharded)
    zero = engine.runner.deepspeed.optimizer
    group, offset, share = zero.grad_position[zero.get_param_id(parameter)]
    numel, shape = parameter.ds_numel, tuple(parameter.ds_shape)  # type: ignore[attr-defined]
    start = min(dist.get_rank() * share, numel)
    length = min(share, numel - start)
    return Fragment(name, shape, numel, start, length, zero.fp32_partitioned_groups_flat[group], offset)
