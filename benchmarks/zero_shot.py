"""What base models know of the main world before they are tuned: in expectation under p*, on logs like a study's.

Of each of 600 users the last 30 % of the events are predicted, 2,500 of them, from windows of at most 12 events;
anchors are counted on the first 45 %. The endpoint, its mean, and the share of the tail's targets (mean over behaviors
with at least 10) that are the likeliest of the tail. No Ray.

    python -m benchmarks.zero_shot behaviorlm/assets/base [FOLDER ...] [--seeds 901 902] [--json FILE]
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.utils.logging import disable_progress_bar

from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.model.base_model import load_model, load_tokenizer, max_positions
from behaviorlm.model.config import ModelConfig
from behaviorlm.prompts.config import PromptConfig
from behaviorlm.prompts.encoder import PromptEncoder
from behaviorlm.scoring.label_scoring import label_scorer
from behaviorlm.timelines.parts import labels_with_terminator
from behaviorlm.trees.token_tree import Int32, TreeWriter
from behaviorlm_lab.pretraining.documents import events_table
from behaviorlm_lab.truth.frontier import MINIMUM_TARGETS, endpoint_frontier, expected
from behaviorlm_lab.truth.probabilities import filtered_timelines
from behaviorlm_lab.world.generator import Event, Floats, Integers, simulate_user, timeline_of
from behaviorlm_lab.world.process import default_world
from behaviorlm_ray.console.command_line import option_parser

USERS, SAMPLES = 600, 2500
TRAINED, TESTED = 0.45, 0.7
"""Shares of a user's events up to which anchors are counted, and from which events are predicted."""
PROMPT = PromptConfig(max_events=12, stride=6)
PROMPTS_AT_ONCE = 16


@dataclass(frozen=True)
class Asked:
    """Samples of a log: the events up to each, the last one the target, and p* of it, float64[n, K]."""

    events: list[list[Event]]
    truth: Floats
    targets: Integers
    is_anchor: NDArray[np.bool_]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each base and log. Returns the exit code."""
    parser = option_parser(__doc__, None)
    parser.add_argument("bases", nargs="+", help="folders of base models")
    parser.add_argument("--seeds", type=int, nargs="+", default=[901], help="seeds of the logs")
    parser.add_argument("--json", type=Path, help="where the numbers go, too")
    options = parser.parse_args(arguments)
    disable_progress_bar()
    torch.set_num_threads(1)
    rows = []
    for seed in options.seeds:
        asked = samples(seed)
        best = endpoint_frontier(asked.truth, asked.is_anchor, asked.targets, np.array([0.5]))
        ceiling = float(best.expected_anchor_accuracy[0] + best.expected_tail_macro_recall[0]) / 2
        for base in options.bases:
            row = {"log": seed, "base": base, **measured(base, asked), "ceiling": ceiling}
            rows.append(row)
            print(
                *(f"{key} {value:.3f}" if isinstance(value, float) else value for key, value in row.items())
            )
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


def samples(seed: int) -> Asked:
    """Of the log of a seed."""
    world = default_world()
    lives = [simulate_user(world, seed, user) for user in range(USERS)]
    places = [
        (user, at) for user, life in enumerate(lives) for at in range(int(TESTED * len(life)), len(life))
    ]
    chosen = np.sort(np.random.default_rng(0).permutation(len(places))[:SAMPLES])
    timelines = [timeline_of(world, life) for life in lives]
    truth = filtered_timelines(world, timelines)
    early = np.concatenate([one.behaviors[1 : int(TRAINED * len(one))] for one in timelines])
    return Asked(
        [lives[user][: at + 1] for user, at in (places[number] for number in chosen)],
        np.stack([truth[user][at] for user, at in (places[number] for number in chosen)]),
        np.array([timelines[user].behaviors[at] for user, at in (places[number] for number in chosen)]),
        np.bincount(early, minlength=len(world.names)) > 0.01 * len(early),
    )


def measured(base: str, asked: Asked) -> dict[str, float]:
    """The numbers of one base."""
    scores = scored(base, asked.events)
    found = expected(scores.argmax(axis=1), asked.truth, asked.is_anchor)
    anchor, tail = (found[key] or 0.0 for key in ("anchor_accuracy", "tail_macro_recall"))
    rare = np.flatnonzero(~asked.is_anchor)
    chosen = rare[scores[:, rare].argmax(axis=1)]
    recalls = [
        float((chosen[asked.targets == behavior] == behavior).mean())
        for behavior in rare
        if (asked.targets == behavior).sum() >= MINIMUM_TARGETS
    ]
    among = float(np.mean(recalls))
    return {"anchor": anchor, "tail": tail, "both": (anchor + tail) / 2, "tail_among_tail": among}


def scored(base: str, events: Sequence[list[Event]]) -> NDArray[np.float32]:
    """Label scores of each sample, float32[n, K]."""
    config = ModelConfig(base=base)
    model = load_model(config).requires_grad_(False).eval()
    encoder = PromptEncoder(load_tokenizer(config), PROMPT)
    shared = encoder.prompt_tokens(default_world().names, max_positions(config), 16)
    labels = labels_with_terminator(shared)
    scorer = label_scorer(model, choose_attention(model), labels, 2048, "trie")
    prompts = [_after_the_instruction(encoder, history) for history in events]
    by_length = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    scores = np.zeros((len(prompts), len(labels)), np.float32)
    for start in range(0, len(by_length), PROMPTS_AT_ONCE):
        numbers = by_length[start : start + PROMPTS_AT_ONCE]

        def write(writer: TreeWriter, numbers: list[int] = numbers) -> list[int]:
            writer.open(shared.instruction_ids)
            return [writer.leaf(prompts[number]) for number in numbers]

        scores[numbers] = scorer.score(write)
    return scores


def _after_the_instruction(encoder: PromptEncoder, history: list[Event]) -> Int32:
    """A window's lines and the question; it starts at a multiple of the stride."""
    at = len(history) - 1
    start = max(0, -(-(at - PROMPT.max_events) // PROMPT.stride) * PROMPT.stride)
    table = events_table(history[start:])
    lines = encoder.encode_lines(table).to_pylist()[:-1]
    question = encoder.encode_questions(table).to_pylist()[-1]
    return np.array([token for line in lines for token in line] + question, np.int32)


if __name__ == "__main__":
    sys.exit(main())
