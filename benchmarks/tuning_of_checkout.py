"""A tuning step by the code of another checkout of this repository, in a process of its own: before and after.

python benchmarks/tuning_of_checkout.py   (by `bench_tuning --before CHECKOUT`, with that checkout's packages)

The first line says where base and adapter lie, what the drawn log is, and how it is scheduled; each further one asks
for a step: forward and backward of the packs of that checkout's own schedule, laid out by it. Written for commit
628afbf; it works with later ones whose parts, schedules and models are made alike, such as ours.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from transformers.utils.logging import disable_progress_bar

import behaviorlm
from behaviorlm.model.adapters import load_trained
from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.model.config import ModelConfig
from behaviorlm.model.tree_model import TreeModel, pack_tensors
from behaviorlm.prompts.encoder import PromptTokens
from behaviorlm.timelines.parts import TimelinePart, TokenRuns
from behaviorlm.training.packs import Batching, StepSchedule

TYPES = {
    "behavior": np.int32,
    "split": np.int8,
    "is_target": np.bool_,
    "is_repeat": np.bool_,
    "sample_id": np.uint8,
}
"""Of columns; others are int64."""


def main() -> None:
    """Answer until nothing is asked any more."""
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries print
    disable_progress_bar()
    torch.set_num_threads(1)
    asked = json.loads(sys.stdin.readline())
    config = ModelConfig(base=asked["base"], dtype="float32")
    model = load_trained(config, Path(asked["adapter"]), trainable=True)
    tree_model = TreeModel(model, choose_attention(model)).train()
    schedule = scheduled(asked)
    packs = schedule.packs(0)
    told = {
        "code": behaviorlm.__file__,
        "ids": [each.hex() for each in schedule.sample_ids(0)],
        "tokens": _tokens(model, tree_model, packs),
    }
    print(json.dumps(told), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(_step(model, tree_model, packs, json.loads(line))), file=answers, flush=True)


def scheduled(asked: dict[str, Any]) -> StepSchedule:
    """This checkout's schedule of the drawn log."""
    columns: dict[str, Any] = {
        name: np.array(of, TYPES.get(name, np.int64)) for name, of in asked["columns"].items()
    }
    count = len(columns["behavior"])
    runs: dict[str, Any] = {
        name: TokenRuns(np.array(values, np.int32), np.array(offsets, np.int64))
        for name, (values, offsets) in asked["runs"].items()
    }
    later: dict[str, Any] = {
        "profiles": TokenRuns(np.zeros(0, np.int32), np.zeros(count + 1, np.int64)),
        "profile_row": np.zeros(count, np.int64),
    }
    known = {each.name for each in fields(TimelinePart)}
    part = TimelinePart(
        path=Path("drawn"),
        table=pa.table({}),
        **runs,
        **columns,
        **{name: of for name, of in later.items() if name in known},
    )
    prompt = PromptTokens.from_json(asked["prompt"])
    rows = np.array(asked["rows"], np.int64)
    return StepSchedule([part], [rows], prompt, [], Batching(**asked["batching"]))


def _tokens(model: Any, tree_model: TreeModel, packs: Sequence[Any]) -> int:
    """Those that go through the model for some packs, with copies and padding."""
    seen: list[int] = []
    hook = model.get_input_embeddings().register_forward_hook(
        lambda _, inputs, __: seen.append(inputs[0].numel())
    )
    with torch.no_grad():
        for pack in packs:
            tree_model(pack_tensors(pack, "cpu"))
    hook.remove()
    return sum(seen)


def _step(model: Any, tree_model: TreeModel, packs: Sequence[Any], asked: dict[str, str]) -> dict[str, float]:
    """One step; `gradients`: a file for them."""
    started = time.process_time()
    for pack in packs:
        tree_model(pack_tensors(pack, "cpu"))[0].backward()
    cpu = time.process_time() - started
    if "gradients" in asked:
        found = {key: of.grad.numpy() for key, of in model.named_parameters() if of.grad is not None}
        np.savez(asked["gradients"], **found)
    model.zero_grad(set_to_none=True)
    return {"cpu": cpu}


if __name__ == "__main__":
    main()
