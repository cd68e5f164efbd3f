"""What is served where no artifact is named: the embedded base as it came, asked about the main world."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from behaviorlm.log_files.config import EventsConfig
from behaviorlm.model.base_model import load_model, load_tokenizer, max_positions
from behaviorlm.model.config import ModelConfig
from behaviorlm.predictor.artifact import (
    Artifact,
    Behavior,
    ModelPredictor,
    Origin,
    SharedTokens,
    event_mapping,
)
from behaviorlm.predictor.rules import DecisionRule, PlainRule
from behaviorlm.predictor.writing import write_description, write_weights
from behaviorlm.prompts.config import PromptConfig
from behaviorlm.prompts.encoder import PromptEncoder
from behaviorlm_lab.world.inhabitants import default_world

BASE = Path(__file__).parents[1] / "behaviorlm/assets/base"
EVENTS = EventsConfig.model_validate(
    {
        "dataset": "bench",
        "paths": ["log.jsonl"],
        "user": "user",
        "behavior": "behavior",
        "order": {"column": "time"},
        "context_after": ["place"],
        "clock": ["weekday", "hour"],
    }
)


def write_default(folder: Path, prompt: PromptConfig, decision: DecisionRule | None = None) -> None:
    """Write the artifact. decision: by which answers are ranked; None: plainly."""
    folder.mkdir(parents=True)
    config = ModelConfig(base=str(BASE))
    names = default_world().names
    found = PromptEncoder(load_tokenizer(config), prompt).prompt_tokens(names, max_positions(config), 12)
    tokens = SharedTokens(
        instruction_ids=found.instruction_ids.tolist(),
        terminator_ids=found.terminator_ids.tolist(),
        label_ids=[ids.tolist() for ids in found.label_ids],
        max_history_tokens=found.max_history_tokens,
        max_positions=max_positions(config),
    )
    write_description(
        folder,
        Artifact(
            predictor=ModelPredictor(),
            decision=decision or PlainRule(),
            behaviors=[
                Behavior(name=name, count=1 + place, group="tail") for place, name in enumerate(names)
            ],
            events=event_mapping(EVENTS),
            prompt=prompt,
            tokens=tokens,
            weights=write_weights(folder, config, load_model(config), is_tuned=False, merged=False),
            origin=Origin(
                run="bench", dataset="bench", predictor="untuned", created="2026-01-01T00:00:00+00:00"
            ),
        ),
    )


def timeline(names: tuple[str, ...], user: int) -> Iterator[dict[str, Any]]:
    """A user's events without end, half an hour apart."""
    random = np.random.default_rng([7, user])
    start = np.datetime64("2024-03-01T06:00:00") + np.timedelta64(int(random.integers(0, 10_000)), "m")
    for place in itertools.count():
        yield {
            "time": f"{start + np.timedelta64(30 * place, 'm')}Z",
            "behavior": str(names[random.integers(len(names))]),
            "place": str(random.choice(["home", "work", "way"])),
        }


def bodies(names: tuple[str, ...], user: int, known: int) -> Iterator[dict[str, Any]]:
    """What is asked for a user, once for each of his events, with what is known of him then.

    known: events that a client sends at most; `earlier_events` tells how many there were before them.
    """
    shown: list[dict[str, Any]] = []
    for place, event in enumerate(timeline(names, user)):
        shown = [*shown, event][-known:]
        yield {
            "history": shown,
            "earlier_events": place + 1 - len(shown),
            "at": event["time"],
            "k": 5,
            "user_key": f"user {user}",
        }
