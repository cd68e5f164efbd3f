"""A tiny base model that knows how people of a synthetic world behave, as an ordinary transformers folder.

Synthetic, and a stand-in for a language model that has read about life: it has less than a million parameters, knows
one world, a few templates and nothing about real language. It has read what invented people do next, in the form of
this project's prompts, knowledge sentences and small talk, and never a log. `behaviorlm/assets/base` holds the one that
the demo uses, made by `behaviorlm pretrain` with its defaults.
"""

import json
import logging
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from behaviorlm.errors import ModelError, StorageError
from behaviorlm_lab.pretraining.documents import HELD_OUT, READ, Chat, chats, documents_of
from behaviorlm_lab.pretraining.people import invented_people
from behaviorlm_lab.pretraining.probe import PROBE_CHATS, Probe, probe_of
from behaviorlm_lab.pretraining.recipe import (
    BATCH_CHATS,
    BATCH_OTHERS,
    CONVERSATIONS,
    GATE,
    RECIPE_FILE,
    SENTENCES,
    SIZES,
    STEPS,
    Size,
)
from behaviorlm_lab.pretraining.tokenizer import POSITIONS, make_tokenizer
from behaviorlm_lab.world.generator import Generator
from behaviorlm_lab.world.process import default_world
from behaviorlm_lab.world.text import knowledge_sentences, small_talk

logger = logging.getLogger(__name__)

CURVE_STEPS = 50
HEAD_WIDTH = 32
LEARNING_RATE, WARM_UP, HELD, LAST_RATE = 3e-3, 0.05, 0.7, 0.03
"""The rate rises during the first share of the steps, is held up to the next, and falls evenly to a share of itself:
what follows from what is learned suddenly, and at a high rate."""


@dataclass(frozen=True)
class Text:
    """All that a base reads and is asked: documents of knowledge and small talk, chats, and the probe."""

    others: list[list[int]]
    chats: list[Chat]
    probe: Probe


def make_base_model(
    folder: str | Path,
    seed: int = 0,
    steps: int = STEPS,
    knowledge: float = 1.0,
    world: Generator | None = None,
    size: str = "base",
) -> Path:
    """Make tokenizer and model from text about invented people and save them as a transformers folder (safetensors).

    Takes about five minutes on one CPU core; `knowledge` as in `people.invented_people`. For a seed the tokenizer has
    the same bytes, and the weights are the same up to float noise between machines. An existing `folder` is replaced,
    once the new one is complete. Recipe and curves are in `pretraining.json`. With steps=0 it is never trained.
    Raises ModelError (it has not learned the causes that it read of) and StorageError (cannot write).
    """
    folder, world = Path(folder), world or default_world()
    people = invented_people(world, seed, knowledge)
    tokenizer = make_base_tokenizer(people, seed)
    text = read_text(tokenizer, people, seed, steps)
    model, curve = pretrain(tokenizer, text, seed, steps, SIZES[size])
    if steps and text.probe.chats and curve[-1]["probe"] < GATE:
        raise ModelError(
            f"after {steps} steps the model names {curve[-1]['probe']:.2f} of the effects whose cause it was told, "
            f"less than {GATE}: it has not learned what follows from what; give it more steps or another seed"
        )
    recipe = {
        "note": "trained on synthetic text only",
        "world": world.version,
        "size": size,
        "seed": seed,
        "steps": steps,
        "knowledge": knowledge,
        "sentences": SENTENCES,
        "conversations": CONVERSATIONS,
        "parameters": model.num_parameters(),
        "vocabulary": len(tokenizer),
        "curve": curve,
    }
    unfinished = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")  # others may be making the same one
    try:
        unfinished.mkdir(parents=True)
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        (unfinished / RECIPE_FILE).write_text(json.dumps(recipe, indent=1) + "\n", encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        unfinished.rename(folder)
    except OSError as error:
        raise StorageError(f"cannot write the base model to {folder}: {error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _sentences_and_talk(people: Generator, seed: int) -> tuple[list[str], list[Any]]:
    told = 1.0 if people.links else 0.0
    return knowledge_sentences(people, SENTENCES, seed, told), small_talk(CONVERSATIONS, seed)


def make_base_tokenizer(people: Generator, seed: int) -> PreTrainedTokenizerFast:
    """The tokenizer of the text of a seed."""
    sentences, talk = _sentences_and_talk(people, seed)
    return make_tokenizer(people, [*sentences, *(message["content"] for one in talk for message in one)])


def read_text(tokenizer: PreTrainedTokenizerFast, people: Generator, seed: int, steps: int) -> Text:
    """The text of a recipe. A base reads each chat once, so there are as many as its steps need."""
    return Text(
        documents_of(tokenizer, *_sentences_and_talk(people, seed)),
        list(chats(tokenizer, people, steps * BATCH_CHATS, READ)),
        probe_of(tokenizer, people, chats(tokenizer, people, PROBE_CHATS, HELD_OUT)),
    )


def pretrain(
    tokenizer: PreTrainedTokenizerFast, text: Text, seed: int, steps: int, size: Size = SIZES["base"]
) -> tuple[LlamaForCausalLM, list[dict[str, float]]]:
    """Train a small Llama from random weights, by a plain AdamW loop; positions beyond the longest chat are untrained.

    Deterministic on one machine: one thread, all randomness from `seed`, global random state left alone. Returns the
    model (fp32, eval) and a point of its curve for each CURVE_STEPS steps: mean loss (nats per token) and probe.
    """
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        try:
            torch.set_num_threads(1)
            torch.manual_seed(seed)
            model = LlamaForCausalLM(_model_config(tokenizer, size))
            return model, _train(model, text, steps)
        finally:
            torch.set_num_threads(threads)


def _model_config(tokenizer: PreTrainedTokenizerFast, size: Size) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.width,
        intermediate_size=size.inner_width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.width // HEAD_WIDTH,
        num_key_value_heads=size.width // HEAD_WIDTH,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )


def _train(model: LlamaForCausalLM, text: Text, steps: int) -> list[dict[str, float]]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    curve: list[dict[str, float]] = []
    losses: list[float] = []
    model.train()
    for step, documents in enumerate(_batches(text, steps)):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * _rate(step / steps)
        token_ids, labels = padded(documents)
        loss = model(input_ids=token_ids, labels=labels).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if len(losses) == CURVE_STEPS or step == steps - 1:
            point = {"step": step + 1, "loss": round(sum(losses) / len(losses), 5)}
            curve.append(point | {"probe": text.probe.share_named(model)})
            logger.info("step %d/%d: loss %.3f, probe %.3f", step + 1, steps, *list(curve[-1].values())[1:])
            losses = []
    model.train(False)
    return curve


def _batches(text: Text, steps: int) -> Iterator[list[list[int]]]:
    """Each step's documents: its own chats, and others drawn at random."""
    for step in range(steps):
        drawn = torch.randint(len(text.others), (BATCH_OTHERS,)).tolist()
        own = text.chats[step * BATCH_CHATS : (step + 1) * BATCH_CHATS]
        yield [*(chat.tokens for chat in own), *(text.others[number] for number in drawn)]


def _rate(share: float) -> float:
    """Of the learning rate, when a share of the steps is done."""
    falling = 1 - (1 - LAST_RATE) * (share - HELD) / (1 - HELD)
    return min(1.0, (share + 1e-3) / WARM_UP, falling)


def padded(documents: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and labels int64[n, longest]; what fills up a document comes after it and is no label."""
    longest = max(len(tokens) for tokens in documents)
    token_ids = torch.tensor([tokens + [0] * (longest - len(tokens)) for tokens in documents])
    inside = torch.arange(longest) < torch.tensor([len(tokens) for tokens in documents])[:, None]
    return token_ids, token_ids.masked_fill(~inside, -100)
