"""Questions that tell whether a language model knows the world: which continuation is likelier to it?

Our choice. The sentences follow templates that occur in no training text (a test keeps it so), so that a right answer
is knowledge of the world rather than of a sentence.
"""

from collections.abc import Sequence

import numpy as np

from behaviorlm.scoring.cloze_questions import ClozeQuestion
from behaviorlm_lab.world.generator import Generator

CAUSE_TEMPLATE = "After somebody had to {behavior}, the next thing to do was to"
HABIT_TEMPLATES = {
    "slot": "The usual time to {behavior} is",
    "day": "The best days to {behavior} are",
    "place": "The right place to {behavior} is",
    "job": "Those who {behavior} most of all are",
}
WRONG = 3
"""Wrong continuations of a question about a cause; about a habit, all phrases of its kind that are not true of it."""


def cloze_questions(world: Generator, seed: int = 0, wrong: int = WRONG) -> list[ClozeQuestion]:
    """One question per link, with other effects as wrong continuations, and one per habit that has an alternative.

    Kinds: `cause`, or that of the habit. Deterministic for the arguments.
    Chance level is 1 / (1 + wrong continuations), different from kind to kind.
    """
    random = np.random.default_rng([*world.version.encode(), seed, 3])
    questions = []
    effects = list(dict.fromkeys(effect for _, effect in world.links))
    for cause, effect in world.links:
        true = {cause} | {other for start, other in world.links if start == cause}
        false = [other for other in effects if other not in true]
        chosen = _some(false, wrong, random)
        questions.append(_question("cause", CAUSE_TEMPLATE, cause, effect, chosen))
    phrases: dict[str, list[str]] = {}
    for habit in world.habits:
        phrases.setdefault(habit.kind, [])
        if habit.phrase not in phrases[habit.kind] and habit.phrase != "during the day":
            phrases[habit.kind].append(habit.phrase)
    for habit in world.habits:
        if habit.phrase not in phrases[habit.kind]:
            continue  # "during the day" is true of several slots
        true = {
            other.phrase
            for other in world.habits
            if (other.behavior, other.kind) == (habit.behavior, habit.kind)
        }
        false = [phrase for phrase in phrases[habit.kind] if phrase not in true]
        if false:
            questions.append(
                _question(habit.kind, HABIT_TEMPLATES[habit.kind], habit.behavior, habit.phrase, false)
            )
    return questions


def _question(kind: str, template: str, behavior: str, right: str, wrong: Sequence[str]) -> ClozeQuestion:
    prefix = template.format(behavior=behavior)
    return ClozeQuestion(kind, prefix, f" {right}.", tuple(f" {continuation}." for continuation in wrong))


def _some(items: list[str], count: int, random: np.random.Generator) -> list[str]:
    keys = [random.random() for _ in items]
    return [item for _, item in sorted(zip(keys, items, strict=True))][:count]
