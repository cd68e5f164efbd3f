"""Small artifacts: a tiny random model or counts of a made log, written as an export writes them."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from behaviorlm.baselines.habits import Habits
from behaviorlm.baselines.timelines import timeline_arrays
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.model.adapters import add_adapter
from behaviorlm.model.base_model import load_model, load_tokenizer, max_positions
from behaviorlm.model.config import LoraSettings, ModelConfig
from behaviorlm.predictor.artifact import (
    Artifact,
    Behavior,
    Calibration,
    Counting,
    CountsPredictor,
    FusedPredictor,
    ModelPredictor,
    Origin,
    Predictor,
    SharedTokens,
    event_mapping,
    read_artifact,
)
from behaviorlm.predictor.counts import Counts, fit_counts, write_counts
from behaviorlm.predictor.rare_histories import without_rare
from behaviorlm.predictor.rules import DecisionRule, PlainRule
from behaviorlm.predictor.writing import write_description, write_weights
from behaviorlm.prompts.config import PromptConfig
from behaviorlm.prompts.encoder import PromptEncoder
from behaviorlm.scoring.config import Normalization

NAMES = ("lamp on", "lamp off", "door", "door open", "camera", "camera on", "alarm", "pay the bill")
"""One name is a prefix of another, twice."""
COUNTS = (300, 200, 90, 50, 20, 8, 3, 0)
EVENTS = EventsConfig.model_validate(
    {
        "dataset": "small log",
        "paths": ["log.csv"],
        "user": "user",
        "behavior": "behavior",
        "order": {"column": "time"},
        "context_before": ["room"],
        "context_after": ["result"],
        "clock": ["weekday"],
    }
)
PROMPT = PromptConfig(max_events=6, stride=3)
PREDICTORS: dict[str, Predictor] = {
    "model": ModelPredictor(),
    "counts": CountsPredictor(),
    "fused": FusedPredictor(counts_weight=0.4),
}


def history(number: int, seed: int = 0) -> list[dict[str, Any]]:
    """So many events, an hour apart."""
    random = np.random.default_rng([seed, number])
    return [
        {
            "time": f"2024-03-{1 + place // 24:02d}T{place % 24:02d}:15:00Z",
            "behavior": str(random.choice(NAMES[:6])),
            "room": str(random.choice(["kitchen", "hall"])),
            "result": str(random.choice(["ok", "failed"])),
        }
        for place in range(number)
    ]


def made_counts(seed: int = 0, users: int = 30, length: int = 25) -> tuple[Counts, Any, pa.Table]:
    """Counts of a made log, unpruned, with the arrays and the table that they were counted on."""
    random = np.random.default_rng(seed)
    rows = users * length
    behavior = random.choice(len(NAMES) - 1, rows, p=np.array([30, 24, 16, 12, 10, 5, 3]) / 100)
    behavior[1::3] = (behavior[::3] + 1) % 4  # something to count
    position = np.tile(np.arange(length), users)
    table = pa.table(
        {
            "user": pa.array([f"user {row // length}" for row in range(rows)]),
            "position": pa.array(position.astype(np.int32)),
            "behavior": pa.array([NAMES[index] for index in behavior]),
            "before.room": pa.array(random.choice(["kitchen", "hall"], rows).tolist()),
            "before.weekday": pa.array(random.choice(["Fri", "Sat"], rows).tolist()),
            "split": pa.array((position >= length - 5).astype(np.int8) + (position >= length - 2)),
            "is_target": pa.array(position > 0),
        }
    )
    timelines = timeline_arrays(table, NAMES)
    return fit_counts(timelines, ["before.room", "before.weekday"]), timelines, table


def without_context(folder: Path, to: Path) -> Path:
    """A copy of an artifact whose log has neither context nor clock."""
    shutil.copytree(folder, to)
    artifact = read_artifact(to)
    bare: dict[str, Any] = {"context_before": [], "context_after": [], "clock": []}
    events = artifact.events.model_copy(update=bare)
    write_description(to, artifact.model_copy(update={"events": events}))
    return to


def write_artifact(
    folder: Path,
    base: Path,
    kind: str = "model",
    decision: DecisionRule | None = None,
    *,
    merged: bool = False,
    prompt: PromptConfig = PROMPT,
    calibration: Calibration | None = None,
    normalization: Normalization = "full",
    habits: Habits | None = None,
) -> Artifact:
    """An artifact of any kind, its adapter random."""
    folder.mkdir(parents=True)
    config = ModelConfig(base=str(base), lora=LoraSettings(rank=2))
    weights = tokens = counting = None
    if kind != "counts":
        model = add_adapter(load_model(config), config, seed=1)
        with torch.no_grad():
            generator = torch.Generator().manual_seed(2)
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
        weights = write_weights(folder, config, model, is_tuned=True, merged=merged)
        positions = max_positions(config)
        found = PromptEncoder(load_tokenizer(config), prompt).prompt_tokens(NAMES, positions, 12)
        tokens = SharedTokens(
            instruction_ids=found.instruction_ids.tolist(),
            terminator_ids=found.terminator_ids.tolist(),
            label_ids=[ids.tolist() for ids in found.label_ids],
            max_history_tokens=found.max_history_tokens,
            max_positions=positions,
        )
    if kind != "model":
        counts, kept, dropped = without_rare(made_counts()[0])
        write_counts(counts, folder)
        counting = Counting(order=3, minimum=5, kept=kept, dropped=dropped, habits=habits)
    behaviors = [
        Behavior(name=name, count=count, group="anchor" if count > 40 else "tail")
        for name, count in zip(NAMES, COUNTS, strict=True)
    ]
    return write_description(
        folder,
        Artifact(
            predictor=PREDICTORS[kind],
            decision=decision or PlainRule(),
            calibration=calibration,
            behaviors=behaviors,
            events=event_mapping(EVENTS),
            prompt=prompt,
            tokens=tokens,
            weights=weights,
            normalization=normalization,
            counting=counting,
            origin=Origin(
                run="small", dataset="small log", predictor=kind, created="2026-01-01T00:00:00+00:00"
            ),
        ),
    )
