"""Text of the synthetic world: knowledge about what people do and why, and small talk that is silent on it.

Synthetic, made from templates. The knowledge is what a base model may read before it is tuned on a log; the
small talk is the auxiliary conversation data. The two share no sentence, and small talk names no behavior.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict, TypeVar

import numpy as np

from behaviorlm.errors import ConfigError
from behaviorlm_lab.world.generator import Generator
from behaviorlm_lab.world.log import write_json_lines


class Message(TypedDict):
    """One message of a conversation; `role` is "user" or "assistant"."""

    role: str
    content: str


Conversation = list[Message]
Item = TypeVar("Item")

PEOPLE = ("Ana", "Ben", "Chen", "Dora", "Emil", "Fatima", "Goran", "Hana", "Ivo", "Jun", "Kofi", "Lena")
SMALL_TALK_VERSION = 1
"""Small talk is about no world, so it has a version of its own; part of its seed."""

CAUSAL_TEMPLATES = (
    "People who {cause} soon {effect}.",
    "When people {cause}, they {effect} a little later.",
    "If you {cause}, you will {effect} next.",
    "People {effect} because they had to {cause} before.",
    "First you {cause}, then you {effect}.",
    "Once you {cause}, it is time to {effect}.",
)
DIARY_TEMPLATES = (
    "The day of {person}: {steps}.",
    "{person} had a plan: {steps}.",
    "What {person} did: {steps}.",
)

Fact = tuple[str, str, str]
"""Question, answer, the word of the answer that carries the fact; a model that read them can be quizzed."""

EVERYDAY_FACTS: tuple[Fact, ...] = (
    *(
        (f"What color is {thing}?", f"{thing[0].upper()}{thing[1:]} is {color}.", color)
        for thing, color in {
            "a lemon": "yellow", "grass": "green", "snow": "white", "coal": "black", "a tomato": "red",
            "the sky": "blue", "a carrot": "orange", "a plum": "purple", "chocolate": "brown",
            "an elephant": "gray",
        }.items()
    ),
    *(
        (f"What is the opposite of {word}?", f"The opposite of {word} is {other}.", other)
        for word, other in {
            "hot": "cold", "big": "small", "fast": "slow", "young": "old", "dry": "wet", "full": "empty",
            "loud": "quiet", "early": "late", "heavy": "light", "soft": "hard",
        }.items()
    ),
    *(
        (f"What does a {animal} say?", f"A {animal} says {sound}.", sound)
        for animal, sound in {
            "dog": "woof", "cat": "meow", "cow": "moo", "sheep": "baa", "duck": "quack", "frog": "croak",
        }.items()
    ),
)  # fmt: skip
SCHOOL_FACTS: tuple[Fact, ...] = (
    *(
        (f"What is the capital of {country}?", f"The capital of {country} is {city}.", city)
        for country, city in {
            "France": "Paris", "Italy": "Rome", "Japan": "Tokyo", "Egypt": "Cairo", "Peru": "Lima",
            "Kenya": "Nairobi", "Norway": "Oslo", "Greece": "Athens", "Cuba": "Havana", "Ghana": "Accra",
        }.items()
    ),
    *(
        (f"What is {first} plus {second}?", f"{first} plus {second} is {first+second}.", str(first + second))
        for first, second in itertools.product(range(1, 6), repeat=2)
    ),
)  # fmt: skip
FACTS = EVERYDAY_FACTS + SCHOOL_FACTS

OPENINGS = (
    ("Hello!", "Hello! How can I help you?"),
    ("Good morning.", "Good morning to you!"),
    ("Hi, how are you?", "I am fine, thank you. And you?"),
    ("Do you have a minute?", "Of course, I have time."),
    ("May I ask you something?", "Yes, please ask."),
)
CLOSINGS = (
    ("Thank you!", "You are welcome."),
    ("That is good to know.", "I am glad that it helps."),
    ("Goodbye!", "Goodbye, and take care."),
    ("See you tomorrow.", "See you tomorrow!"),
)
ADDITIONS = ("Can you tell me: ", "I wonder, ", "Please tell me, ", "One question: ", "", "")


def knowledge_sentences(world: Generator, count: int, seed: int = 0, knowledge: float = 1.0) -> list[str]:
    """`count` sentences about the world: when, where and by whom things are done, and what follows from what.

    `knowledge`, 0 to 1, is the chance that a sentence which could speak of a cause and its effect does; at 0
    every behavior is still named, but none together with its cause. Short diaries of invented days are among
    the sentences; they are no part of any log. Deterministic for the arguments. Raises ConfigError.
    """
    if not 0 <= knowledge <= 1:
        raise ConfigError(f"knowledge={knowledge}: it must lie between 0 and 1")
    random = np.random.default_rng([*world.version.encode(), seed, 1])
    makers = (_causal_sentence, _diary, _causal_sentence, _habit_sentence)
    return [makers[index % len(makers)](world, random, knowledge) for index in range(count)]


def small_talk(count: int, seed: int = 0, facts: Sequence[Fact] = FACTS) -> list[Conversation]:
    """`count` short conversations on colors, animals, capitals and sums. Deterministic for the arguments.

    facts: what they are about; with EVERYDAY_FACTS trained on and SCHOOL_FACTS not, one sees what else is forgotten.
    """
    random = np.random.default_rng([SMALL_TALK_VERSION, seed, 2])
    conversations = []
    for _ in range(count):
        turns = []
        if random.random() < 0.5:
            turns.append(_pick(OPENINGS, random))
        for _ in range(1 + int(random.random() * 2)):
            question, answer, _ = _pick(facts, random)
            addition = _pick(ADDITIONS, random)
            turns.append((addition + question[0].lower() + question[1:] if addition else question, answer))
        if random.random() < 0.5:
            turns.append(_pick(CLOSINGS, random))
        conversation: Conversation = []
        for asked, answered in turns:
            conversation.append({"role": "user", "content": asked})
            conversation.append({"role": "assistant", "content": answered})
        conversations.append(conversation)
    return conversations


def write_conversations(path: str | Path, conversations: list[Conversation]) -> int:
    """Write gzipped JSON lines, one `{"messages": [{"role", "content"}, ...]}` each. Returns their number."""
    return write_json_lines(path, ({"messages": conversation} for conversation in conversations))


def _causal_sentence(world: Generator, random: np.random.Generator, knowledge: float) -> str:
    if random.random() >= knowledge:
        return _habit_sentence(world, random, knowledge)
    cause, effect = _pick(world.links, random)
    return _pick(CAUSAL_TEMPLATES, random).format(cause=cause, effect=effect)


def _diary(world: Generator, random: np.random.Generator, knowledge: float) -> str:
    """A few common things in a row and, with chance `knowledge`, a cause and its effect among them."""
    common = _common(world)
    steps = [_pick(common, random) for _ in range(3 + int(random.random() * 3))]
    if random.random() < knowledge:
        cause, effect = _pick(world.links, random)
        first = int(random.random() * len(steps))
        second = first + 1 + int(random.random() * (len(steps) - first))
        steps[first] = cause
        steps.insert(second, effect)
    return _pick(DIARY_TEMPLATES, random).format(person=_pick(PEOPLE, random), steps=", ".join(steps))


def _habit_sentence(world: Generator, random: np.random.Generator, knowledge: float) -> str:
    habit = _pick(world.habits, random)
    is_common = habit.behavior in _common(world)
    often = "Many people" if is_common else "Now and then people"
    if habit.kind == "job":
        sentence = f"{habit.phrase[0].upper()}{habit.phrase[1:]} often {habit.behavior}."
    elif habit.kind == "place":
        sentence = f"People {habit.behavior} {habit.phrase}."
    else:
        sentence = f"{often} {habit.behavior} {habit.phrase}."
    if is_common and random.random() < 0.2:
        return f"To {habit.behavior} is a habit of {_pick(PEOPLE, random)}."
    return sentence


def _common(world: Generator) -> list[str]:
    return [name for name, is_common in zip(world.names, world.is_common, strict=True) if is_common]


def _pick(items: Sequence[Item], random: np.random.Generator) -> Item:
    return items[int(random.random() * len(items))]
