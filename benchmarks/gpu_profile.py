"""Where the time of a tuning step and of scoring goes: kernels by their share, and what the device waits for."""

from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from behaviorlm.model.adapters import AdaptedModel
from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.model.tree_model import TreeModel
from behaviorlm.scoring.config import Normalization
from behaviorlm.scoring.label_scoring import PROMPT_TOKENS, label_scorer
from benchmarks.gpu_clock import Row, rounds, wait
from benchmarks.gpu_scoring import prompt_groups, prompt_writer
from benchmarks.gpu_shapes import DrawnLog
from benchmarks.gpu_tuning import TuningArm, plain_steps, step_schedule

SHOWN = 25


def profiled_step(model: AdaptedModel, log: DrawnLog, max_tokens: int) -> Row:
    """One optimizer step on one pack."""
    device = next(model.parameters()).device
    packs = step_schedule(log, TuningArm(max_tokens, packs=1)).packs(0)[:1]
    step = plain_steps(TreeModel(model, choose_attention(model)).train())
    row = _profiled(device, lambda: step(packs))
    model.eval()
    return row


def profiled_scoring(
    model: AdaptedModel, log: DrawnLog, normalization: Normalization, max_tokens: int
) -> Row:
    """The prompts that a replica takes at a time, and the names after them."""
    device = next(model.parameters()).device
    scorer = label_scorer(model, choose_attention(model), log.label_ids, max_tokens, normalization)
    trees = max(1, max_tokens // PROMPT_TOKENS)
    groups = prompt_groups(log, max_tokens // trees, max_tokens // 64)[:trees]
    return _profiled(device, lambda: scorer.score(prompt_writer(log, groups)))


def _profiled(device: torch.device, run: Callable[[], Any]) -> Row:
    plain = min(rounds(device, run, 0.0))
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    with profile(activities=activities) as profiler:
        run()
        wait(device)
    events = profiler.key_averages()
    if device.type != "cuda":
        return {"wall_ms": 1000 * plain, "operators": len(events)}
    kernels = [event for event in events if str(event.device_type).endswith("CUDA")]
    total = sum(event.self_device_time_total for event in kernels)
    kernels.sort(key=lambda event: -event.self_device_time_total)
    launches = sum(
        event.count for event in events if event.key in ("cudaLaunchKernel", "cudaLaunchKernelExC")
    )
    waits = {
        event.key: event.count
        for event in events
        if event.key in ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaMemcpyAsync", "aten::nonzero")
    }
    return {
        "wall_ms": 1000 * plain,
        "kernels_ms": total / 1000,
        "launches": launches,
        "waits": waits,
        "kernels": [
            f"{event.self_device_time_total / total:.3f} x{event.count} {event.key[:110]}"
            for event in kernels[:SHOWN]
        ],
    }
