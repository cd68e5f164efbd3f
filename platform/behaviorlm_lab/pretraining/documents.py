"""What a base model reads, as tokens: chats that ask what invented people do next, knowledge, and small talk."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from behaviorlm.events.normalization import WEEKDAYS
from behaviorlm.prompts.config import PromptConfig
from behaviorlm.prompts.encoder import PromptEncoder
from behaviorlm.timelines.parts import labels_with_terminator
from behaviorlm_lab.pretraining.recipe import BATCH_CHATS
from behaviorlm_lab.pretraining.tokenizer import END_OF_TEXT, POSITIONS
from behaviorlm_lab.world.generator import Event, Generator, simulate_user
from behaviorlm_lab.world.text import Conversation

SYSTEM_TEXT = "You are a friendly assistant."
SENTENCES_PER_DOCUMENT = 6
INSTRUCTIONS = (
    PromptConfig().instruction,
    "Say what this person does next.",
    "What comes next in this diary?",
    "Each line is one event. Say the next one.",
)
"""How a chat asks; the first is what prompts say by default."""
EVENTS = (5, 26)
"""Fewest and most events of a chat, the answer included; all chats of a step have as many, so that none is padded."""
READ, HELD_OUT = 0, 1
"""Seeds of lives: those that a base reads, and those that it is asked about."""


@dataclass(frozen=True)
class Chat:
    """A history, the question what comes next and the answer; of the tokens the first `question` are the prompt."""

    tokens: list[int]
    question: int
    behaviors: tuple[str, ...]
    """Those of the history, and last the answer."""


def chats(tokenizer: PreTrainedTokenizerBase, people: Generator, count: int, lives: int) -> Iterator[Chat]:
    """One chat about each of `count` lives (READ or HELD_OUT), in the form of this project's prompts."""
    encoders = [PromptEncoder(tokenizer, PromptConfig(instruction=text)) for text in INSTRUCTIONS]
    prompts = [encoder.prompt_tokens(people.names, POSITIONS, 0) for encoder in encoders]
    labels = dict(zip(people.names, labels_with_terminator(prompts[0]), strict=True))
    random = np.random.default_rng([*people.version.encode(), lives, 5])
    for first in range(0, count, BATCH_CHATS):
        numbers = range(first, min(first + BATCH_CHATS, count))
        length = int(random.integers(EVENTS[0], EVENTS[1] + 1))
        histories = [simulate_user(people, lives, number, (length, length)) for number in numbers]
        events = events_table([event for history in histories for event in history])
        lines = encoders[0].encode_lines(events).to_pylist()
        questions = encoders[0].encode_questions(events).to_pylist()
        at = 0
        for history in histories:
            at += len(history)
            opening = prompts[int(random.integers(len(prompts)))].instruction_ids.tolist()
            told = [token for line in lines[at - len(history) : at - 1] for token in line]
            prompt = [*opening, *told, *questions[at - 1]]
            behaviors = tuple(event.behavior for event in history)
            yield Chat([*prompt, *labels[behaviors[-1]].tolist()], len(prompt), behaviors)


def events_table(events: Sequence[Event]) -> pa.Table:
    """The columns that a line of history is rendered from."""
    return pa.table(
        {
            "before.weekday": [WEEKDAYS[event.time.weekday()] for event in events],
            "before.hour": [f"{event.time.hour:02d}" for event in events],
            "behavior": [event.behavior for event in events],
            "after.place": [event.place for event in events],
        }
    )


def documents_of(
    tokenizer: PreTrainedTokenizerBase, sentences: list[str], conversations: list[Conversation]
) -> list[list[int]]:
    """Token ids of each document, `END_OF_TEXT` at its end: knowledge as paragraphs, small talk as chats."""
    texts = [
        " ".join(sentences[start : start + SENTENCES_PER_DOCUMENT])
        for start in range(0, len(sentences), SENTENCES_PER_DOCUMENT)
    ]
    for index, conversation in enumerate(conversations):
        messages: list[Any] = [*conversation]
        if index % 2:
            messages.insert(0, {"role": "system", "content": SYSTEM_TEXT})
        texts.append(str(tokenizer.apply_chat_template(messages, tokenize=False)))
    return [tokenizer.encode(text + END_OF_TEXT, add_special_tokens=False) for text in texts]
