"""bfloat16 against float32 weights on a CPU: the embedded base, made to take both, in the synthetic world."""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

import behaviorlm
from behaviorlm.model.attention import TreeAttention
from behaviorlm.model.base_model import load_model, load_tokenizer
from behaviorlm.model.config import ModelConfig
from behaviorlm.prompts.config import PromptConfig
from behaviorlm.prompts.encoder import PromptEncoder
from behaviorlm.scoring.label_scoring import label_scorer
from behaviorlm.trees.token_tree import Int32, TokenTree, TreeWriter
from behaviorlm_lab.world.generator import simulate_user
from behaviorlm_lab.world.inhabitants import default_world
from behaviorlm_ray.pipeline.tune import _save
from behaviorlm_ray.tuning.config import TuningConfig, TuningExecution
from behaviorlm_ray.tuning.inputs import ModelSource
from tests.platform.tuning_runs import ToySchedule, toy_task, tune_without_ray

STEPS, SAMPLES, HISTORY = 5, 16, 8
LOSS_BAND = 0.03
"""Largest relative difference of the loss of a step."""
SCORE_BAND = (1.0, 0.1)
"""Largest and mean difference of a label score in nats, as an export allows them (TOLERANCES)."""
Dtype = Literal["float32", "bfloat16"]


def config_of(dtype: Dtype, adaptation: Literal["full", "lora"] = "full") -> ModelConfig:
    base = Path(behaviorlm.__file__).parent / "assets" / "base"
    return ModelConfig(base=str(base), dtype=dtype, adaptation=adaptation)


@functools.cache
def world_labels() -> tuple[Int32, ...]:
    """The tokens of each behavior of the world, with the terminator."""
    encoder = PromptEncoder(load_tokenizer(config_of("float32")), PromptConfig())
    prompt = encoder.prompt_tokens(default_world().names, 512, 0)
    return tuple(np.concatenate([ids, prompt.terminator_ids]).astype(np.int32) for ids in prompt.label_ids)


def lives(first: int, users: int) -> list[list[int]]:
    """What some people of the world do, one after another, as places among its names."""
    world = default_world()
    place = {name: number for number, name in enumerate(world.names)}
    return [
        [place[event.behavior] for event in simulate_user(world, 5, user)]
        for user in range(first, first + users)
    ]


def history_of(life: Sequence[int], end: int) -> Int32:
    labels = world_labels()
    return np.concatenate([labels[row] for row in life[end - HISTORY : end]])


@dataclass(frozen=True)
class WorldSchedule(ToySchedule):
    """Each step the next behavior of other people."""

    @property
    def part_names(self) -> list[str]:
        return ["samples"]

    def packs(self, step: int) -> list[TokenTree]:
        writer = TreeWriter()
        writer.open(world_labels()[0][-1:])
        for item, life in enumerate(lives(step * SAMPLES, SAMPLES)):
            label = world_labels()[life[HISTORY]]
            written = np.concatenate([history_of(life, HISTORY), label])
            is_label = np.arange(len(written)) >= len(written) - len(label)
            writer.chain(written, is_label, weight=1 / SAMPLES, part=0, item=item)
        return [writer.finish()]


def losses_of(folder: Path, config: ModelConfig) -> list[float]:
    """Tune with the product's engine. Returns the losses of the steps."""
    task = toy_task(
        folder,
        build_model=ModelSource(config, None, 1, 0),
        open_schedule=functools.partial(WorldSchedule, (1,) * STEPS),
        save_model=_save,
        config=TuningConfig(learning_rate=1e-3, warmup_share=0.0),
        execution=TuningExecution(zero_stage=1),
    )
    assert tune_without_ray(task, 1) == [0]
    lines = (folder / "output" / "loss.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.mark.parametrize("adaptation", ["full", pytest.param("lora", marks=pytest.mark.slow)])
def test_losses_of_tuning_lie_within_the_band(tmp_path: Path, adaptation: Literal["full", "lora"]) -> None:
    exact, rounded = (
        losses_of(tmp_path / dtype, config_of(dtype, adaptation)) for dtype in ("float32", "bfloat16")
    )
    apart = [abs(one / other - 1) for one, other in zip(rounded, exact, strict=True)]
    assert 0 < max(apart) <= LOSS_BAND
    assert exact[-1] < 0.95 * exact[0]


@pytest.mark.parametrize("normalization", ["full", "trie"])
def test_label_scores_lie_within_the_band(normalization: Literal["full", "trie"]) -> None:
    people = lives(1000, 24)

    def write(writer: TreeWriter) -> list[int]:
        writer.open(world_labels()[0][-1:])
        return [writer.leaf(history_of(life, HISTORY)) for life in people]

    found = []
    for dtype in ("float32", "bfloat16"):
        model = load_model(config_of(dtype)).requires_grad_(False)
        assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, dtype)}
        scorer = label_scorer(model, TreeAttention("full"), list(world_labels()), 4096, normalization)
        found.append(scorer.score(write))
    apart = np.abs(found[0] - found[1])
    assert 0 < apart.max() <= SCORE_BAND[0] and apart.mean() <= SCORE_BAND[1]
