"""The world's text: knowledge speaks of causes as much as asked, and small talk is silent on the world."""

import gzip
import json
import re
from pathlib import Path

import pytest

from behaviorlm.errors import ConfigError
from behaviorlm.world.process import default_world
from behaviorlm.world.text import FACTS, knowledge_sentences, small_talk, write_conversations

WORLD = default_world()


def _sentences(text: str) -> set[str]:
    return {part.strip().lower() for part in re.split(r"(?<=[.!?])\s", text) if part.strip()}


def _tells_a_link(sentence: str) -> bool:
    return any(cause in sentence and effect in sentence for cause, effect in WORLD.links)


def test_small_talk_holds_no_sentence_of_the_knowledge_and_names_no_behavior() -> None:
    knowledge = {
        part for sentence in knowledge_sentences(WORLD, 5000, seed=0) for part in _sentences(sentence)
    }
    talk = [message["content"] for conversation in small_talk(2000, seed=1) for message in conversation]
    assert not knowledge & {part for content in talk for part in _sentences(content)}
    assert not [content for content in talk for name in WORLD.names if name in content.lower()]


def test_knowledge_names_every_behavior_and_tells_every_link() -> None:
    sentences = knowledge_sentences(WORLD, 3000)
    assert all(any(name in sentence for sentence in sentences) for name in WORLD.names)
    for cause, effect in WORLD.links:
        assert sum(cause in sentence and effect in sentence for sentence in sentences) > 50


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
