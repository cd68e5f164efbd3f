"""Small runs: a tiny random base model with its tokenizer, generated logs, and their configuration."""

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from behaviorlm.config import load_settings
from behaviorlm_ray.pipeline.settings import RunSettings
from tests.behaviorlm.tokenizers_for_tests import small_tokenizer

BEHAVIORS = ("lamp on", "lamp off", "door", "door open", "camera", "camera on", "alarm", "pay the bill")
"""One name is a prefix of another, twice."""
WEIGHTS = np.array([30, 24, 16, 10, 8, 6, 4, 2]) / 100
START = datetime(2024, 3, 1, 6, tzinfo=UTC)
COLUMNS = ("time", "user", "behavior", "room", "result")


def save_base(folder: Path, seed: int = 0) -> Path:
    """A Llama of 2 layers and 512 positions with the small tokenizer, in float32."""
    tokenizer = small_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def log_rows(seed: int, users: int = 24, low: int = 4, high: int = 24) -> list[dict[str, str]]:
    """Events of all users, shuffled; minutes are coarse, so that many events of a user are tied."""
    random = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        time = START + timedelta(hours=int(random.integers(0, 200)))
        for _ in range(int(random.integers(low, high + 1))):
            time += timedelta(minutes=int(random.choice([0, 0, 7, 95])))
            rows.append(
                {
                    "time": time.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    "user": f"user {user} é",
                    "behavior": str(random.choice(BEHAVIORS, p=WEIGHTS)),
                    "room": str(random.choice(["kitchen", "hall", ""])),
                    "result": str(random.choice(["ok", "failed"])),
                }
            )
    return [rows[index] for index in random.permutation(len(rows))]


def write_log(path: Path, rows: list[dict[str, str]]) -> Path:
    """Write rows as CSV, JSON lines or Parquet by suffix, packed for .gz. An empty text is a missing value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = list(rows[0]) if rows else list(COLUMNS)
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    table = pa.table({name: pa.array([row[name] or None for row in rows], pa.string()) for name in names})
    if kind == "parquet":
        pq.write_table(table, path, row_group_size=100)
        return path
    if kind == "csv":
        sink = pa.BufferOutputStream()
        pyarrow.csv.write_csv(table, sink)
        content = sink.getvalue().to_pybytes()
    else:
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist()).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_conversations(path: Path, number: int = 40) -> Path:
    """Short conversations in JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    talks = [
        [
            {"role": "user", "content": f"what is {index}?"},
            {"role": "assistant", "content": f"it is {index % 7}"},
        ]
        for index in range(number)
    ]
    path.write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in talks), encoding="utf-8")
    return path


def run_data(root: Path, base: Path, *paths: Path) -> dict[str, Any]:
    """The configuration of a run that takes seconds, as in YAML."""
    tuning = {"max_steps": 2, "samples_per_step": 8, "max_tokens": 512}
    return {
        "name": "small",
        "storage": {"root": str(root)},
        "events": {
            "dataset": "small log",
            "paths": [str(path) for path in paths],
            "user": "user",
            "behavior": "behavior",
            "order": {"column": "time", "kind": "time"},
            "context_before": ["room"],
            "context_after": ["result"],
            "clock": ["weekday"],
        },
        "split": {"validation": 0.2, "test": 0.2},
        "vocabulary": {"anchor_threshold": 0.09},
        "prompt": {"max_events": 6, "stride": 3},
        "preparation": {"min_partitions": 3},
        "model": {"base": str(base), "lora": {"rank": 4}},
        "a_tuning": tuning,
        "b_tuning": tuning,
        "one_stage": tuning,
        "selection": {"total": 40},
        "evaluation": {
            "arms": ["untuned", "ab_tuned"],
            "bootstrap_samples": 50,
            "retention_conversations": 4,
        },
        "execution": {"scoring_actors": 2, "tuning": {"workers": 1}},
    }


def run_settings(root: Path, base: Path, *paths: Path, overrides: tuple[str, ...] = ()) -> RunSettings:
    """The settings of a run that takes seconds, with `a.b=value` overrides."""
    return load_settings(RunSettings, None, overrides, run_data(root, base, *paths))
