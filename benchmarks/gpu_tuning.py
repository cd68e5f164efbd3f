"""Tuning steps on one device: LoRA in bfloat16 with float32 masters, on packs of token trees."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from behaviorlm.model.adapters import AdaptedModel
from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.model.lm_head import causal_lm
from behaviorlm.model.tree_model import TreeModel, pack_tensors
from behaviorlm.training.packs import Batching, StepSchedule
from behaviorlm.trees.token_tree import TokenTree
from behaviorlm_ray.costs.operations import model_work, step_work
from behaviorlm_ray.tuning.config import TuningConfig, TuningExecution
from benchmarks.gpu_clock import Row, forget_peak, peak_gib, rounds, spread, wait
from benchmarks.gpu_shapes import DrawnLog

Step = Callable[[Sequence[TokenTree]], None]


@dataclass(frozen=True)
class TuningArm:
    """How a step is carried out. max_tokens: of a pack. packs: about so many a step."""

    max_tokens: int
    packs: int
    checkpointing: bool = False
    engine: str = "plain"

    def name(self) -> Row:
        """As it stands in the record."""
        return {"max_tokens": self.max_tokens, "checkpointing": self.checkpointing, "engine": self.engine}


def measured_tuning(
    model: AdaptedModel,
    log: DrawnLog,
    arm: TuningArm,
    peaks: tuple[float | None, float],
    seconds: float = 5.0,
) -> Row:
    """Speed of optimizer steps. peaks: 10^12 operations a second of the data sheet and of the matrix product here."""
    device = next(model.parameters()).device
    schedule = step_schedule(log, arm)
    count = min(2, len(schedule))
    started = time.perf_counter()
    steps = [schedule.packs(step) for step in range(count)]
    collated = (time.perf_counter() - started) / count
    packs = steps[0]
    inner = causal_lm(model)
    if arm.checkpointing:
        _checkpointing(inner, "enable")({"use_reentrant": False})
    tree_model = TreeModel(model, choose_attention(model)).train()
    work = model_work(model)
    assert work is not None
    forget_peak(device)
    try:
        step = (
            plain_steps(tree_model) if arm.engine == "plain" else engine_steps(tree_model, device, arm.engine)
        )
        started = time.perf_counter()
        step(packs)
        wait(device)
        first = time.perf_counter() - started
        taken = rounds(device, lambda: step(packs), seconds)
    finally:
        if arm.checkpointing:
            _checkpointing(inner, "disable")()
        model.eval()
    counted = step_work(packs)
    median = float(np.median(taken))
    operations = work.of(counted)
    body = per_token_numel(model)
    takes_rows = tree_model.attention.takes_rows
    laid_out = sum(len(pack) if takes_rows else _laid_out(pack, device) for pack in packs)
    return {
        "samples_per_s": counted_samples(packs) / median,
        "unique_tokens_per_s": counted.tokens / median,
        "body_tokens_per_unique": laid_out / counted.tokens,
        "packs": len(packs),
        "mfu": None if peaks[0] is None else operations / median / 1e12 / peaks[0],
        "mfu_6p": None if peaks[0] is None else 6 * body * counted.tokens / median / 1e12 / peaks[0],
        "of_ceiling": operations / median / 1e12 / peaks[1],
        "peak_gib": peak_gib(device),
        "collate_s": collated,
        "first_s": first,
        **spread(taken),
    }


def step_schedule(log: DrawnLog, arm: TuningArm) -> StepSchedule:
    """All targets of the log, in steps of about `arm.packs` packs."""
    rows = log.part.targets("train")
    a_sample = 40  # tokens of its own, with shared histories at 8 a timeline
    samples = max(8, arm.packs * arm.max_tokens // a_sample)
    batching = Batching(samples, 8, arm.max_tokens, 1.0, None, 0)
    return StepSchedule([log.part], [rows], log.prompt, [], batching)


def counted_samples(packs: Sequence[TokenTree]) -> int:
    """Samples of some packs."""
    return sum(len(np.unique(pack.item[pack.part == 0])) for pack in packs)


def per_token_numel(model: nn.Module) -> int:
    """Weights that every token meets: all matrices but embeddings and head."""
    head = causal_lm(model).get_output_embeddings().weight
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    return sum(
        parameter.numel()
        for parameter in model.parameters()
        if parameter.dim() == 2 and parameter is not head and id(parameter) not in tables
    )


def plain_steps(model: TreeModel) -> Step:
    """Steps without DeepSpeed: float32 masters and sums of gradients, clipping at 1, AdamW, as the engine has them."""
    parameters: list[Tensor] = [parameter for parameter in model.parameters() if parameter.requires_grad]
    device = parameters[0].device
    masters = [parameter.detach().float().clone() for parameter in parameters]
    sums = [torch.zeros_like(master) for master in masters]
    for master, gradient_sum in zip(masters, sums, strict=True):
        master.grad = gradient_sum
    optimizer = torch.optim.AdamW(masters, lr=2e-4, weight_decay=0.0, fused=device.type == "cuda")

    def step(packs: Sequence[TokenTree]) -> None:
        losses: list[Tensor] = []
        for pack in packs:
            loss, _, _ = model(pack_tensors(pack, device))
            loss.backward()
            losses.append(loss.detach())
            with torch.no_grad():
                gradients = [parameter.grad for parameter in parameters]
                torch._foreach_add_(
                    sums, [gradient.float() for gradient in gradients if gradient is not None]
                )
            for parameter in parameters:
                parameter.grad = None
        norm = torch.nn.utils.clip_grad_norm_(masters, 1.0)
        told = torch.stack([torch.stack(losses).sum(), norm]).tolist()  # one wait for the device
        if not np.isfinite(told).all():
            raise FloatingPointError(f"loss and norm of gradients: {told}")
        optimizer.step()
        with torch.no_grad():
            torch._foreach_copy_(parameters, masters)
        torch._foreach_zero_(sums)

    return step


def engine_steps(model: TreeModel, device: torch.device, kind: str) -> Step:
    """Steps of the product's own engine, one worker: "deepspeed" with ZeRO-1, or "replicated", which is stage 0."""
    from behaviorlm_ray.tuning.engine import prepare_process, start_engine
    from behaviorlm_ray.tuning.optimizer_step import run_step

    execution = TuningExecution(
        use_gpu=device.type == "cuda", cpus_per_worker=4, zero_stage=int(kind == "deepspeed")
    )
    if device.type == "cuda":
        prepare_process(execution)
    if not dist.is_initialized():
        os.environ |= {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "1"}  # DeepSpeed looks for the first
        store: Any = dist.HashStore()
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo", store=store, rank=0, world_size=1
        )
    engine = start_engine(model, TuningConfig(learning_rate=2e-4), execution)
    state = {"step": 0}

    def step(packs: Sequence[TokenTree]) -> None:
        run_step(engine, packs, state["step"], 10_000)
        state["step"] += 1

    return step


def _checkpointing(model: nn.Module, action: str) -> Any:
    """The model's method, by its name of today or that of earlier releases of transformers."""
    names = [f"{kind}_checkpointing_{action}" for kind in ("activation", "gradient")]
    return next(getattr(model, name) for name in names if hasattr(model, name))


def _laid_out(pack: TokenTree, device: torch.device) -> int:
    rows = pack_tensors(pack, device).rows
    return len(pack) if rows is None else rows.take.numel()
