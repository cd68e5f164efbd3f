"""The world's text: knowledge speaks of causes as much as asked, and small talk is silent on the world."""

import gzip
import json
import re
from pathlib import Path

import pytest

from behaviorlm.errors import ConfigError
from behaviorlm_lab.world.cloze import CAUSE_TEMPLATE, HABIT_TEMPLATES, cloze_questions
from behaviorlm_lab.world.errands import errands_world
from behaviorlm_lab.world.generator import Generator
from behaviorlm_lab.world.process import default_world
from behaviorlm_lab.world.text import FACTS, knowledge_sentences, small_talk, write_conversations

WORLD = default_world()
BOTH = pytest.mark.parametrize("world", [WORLD, errands_world()], ids=["main", "errands"])


def _sentences(text: str) -> set[str]:
    return {part.strip().lower() for part in re.split(r"(?<=[.!?])\s", text) if part.strip()}


def _tells_a_link(sentence: str) -> bool:
    return any(cause in sentence and effect in sentence for cause, effect in WORLD.links)


@BOTH
def test_small_talk_holds_no_sentence_of_the_knowledge_and_names_no_behavior(world: Generator) -> None:
    knowledge = {
        part for sentence in knowledge_sentences(world, 5000, seed=0) for part in _sentences(sentence)
    }
    talk = [message["content"] for conversation in small_talk(2000, seed=1) for message in conversation]
    assert not knowledge & {part for content in talk for part in _sentences(content)}
    assert not [content for content in talk for name in world.names if name in content.lower()]


@BOTH
def test_knowledge_names_every_behavior_and_tells_every_link_and_habit(world: Generator) -> None:
    sentences = knowledge_sentences(world, 3000)
    assert all(any(name in sentence for sentence in sentences) for name in world.names)
    for cause, effect in world.links:
        assert sum(cause in sentence and effect in sentence for sentence in sentences) > 50
    for habit in world.habits:
        assert any(
            habit.behavior in sentence and habit.phrase.lower() in sentence.lower() for sentence in sentences
        )


def test_the_knowledge_dial_sets_how_much_is_told_and_at_zero_nothing_is() -> None:
    told = [
        sum(map(_tells_a_link, knowledge_sentences(WORLD, 2000, seed=2, knowledge=dial)))
        for dial in (0, 0.5, 1)
    ]
    assert told[0] == 0 and told[2] == 1500
    assert 600 < told[1] < 900
    silent = knowledge_sentences(WORLD, 2000, seed=2, knowledge=0)
    assert all(any(name in sentence for sentence in silent) for name in WORLD.names)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        knowledge_sentences(WORLD, 1, knowledge=1.5)


@BOTH
def test_no_causal_sentence_is_left_without_knowledge_in_either_world(world: Generator) -> None:
    silent = knowledge_sentences(world, 3000, seed=3, knowledge=0)
    assert not [s for s in silent for cause, effect in world.links if cause in s and effect in s]


@BOTH
def test_cloze_questions_ask_every_link_in_words_that_no_text_has(world: Generator) -> None:
    questions = cloze_questions(world, seed=1)
    text = " ".join(knowledge_sentences(world, 5000))
    assert not [question for question in questions if question.prefix in text]
    for template in (CAUSE_TEMPLATE, *HABIT_TEMPLATES.values()):
        assert template.split("{behavior}")[0] not in text
    causes = [question for question in questions if question.kind == "cause"]
    links = set(world.links)
    assert len(causes) == len(links) and len(questions) > len(causes) + 15
    for question in causes:
        cause = next(cause for cause, _ in links if f"had to {cause}," in question.prefix)
        assert (cause, question.right.strip(" .")) in links and len(question.wrong) == 3
        assert not [wrong for wrong in question.wrong if (cause, wrong.strip(" .")) in links]
    for question in questions:
        assert question.right not in question.wrong and question.wrong
        assert all(text.startswith(" ") for text in (question.right, *question.wrong))
    assert cloze_questions(world, seed=1) == questions != cloze_questions(world, seed=2)


def test_text_is_the_same_for_a_seed_and_another_for_another() -> None:
    assert knowledge_sentences(WORLD, 100, seed=1) == knowledge_sentences(WORLD, 100, seed=1)
    assert knowledge_sentences(WORLD, 100, seed=1) != knowledge_sentences(WORLD, 100, seed=2)
    assert small_talk(50, seed=1) == small_talk(50, seed=1) != small_talk(50, seed=2)


def test_conversations_are_written_as_messages_with_alternating_roles(tmp_path: Path) -> None:
    talk = small_talk(40)
    assert write_conversations(tmp_path / "talk.jsonl.gz", talk) == 40
    with gzip.open(tmp_path / "talk.jsonl.gz", "rt", encoding="utf-8") as file:
        assert [json.loads(line) for line in file] == [{"messages": conversation} for conversation in talk]
    for conversation in talk:
        roles = [message["role"] for message in conversation]
        assert roles == ["user", "assistant"] * (len(roles) // 2)


def test_every_fact_has_its_word_in_its_answer_and_not_in_its_question() -> None:
    assert all(
        word in answer and word not in question.split() for question, answer, word in FACTS if word.isalpha()
    )
    assert len({question for question, _, _ in FACTS}) == len(FACTS)
