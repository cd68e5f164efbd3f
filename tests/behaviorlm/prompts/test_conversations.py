"""Auxiliary conversations: what is read or set aside, which tokens the assistant wrote, and the holdout."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import PreTrainedTokenizerFast

from behaviorlm.errors import DataError
from behaviorlm.prompts.config import AuxiliarySource
from behaviorlm.prompts.conversations import (
    Message,
    conversation_id,
    read_conversations,
    split_holdout,
)
from behaviorlm.prompts.encoded_conversations import Conversation, encode_conversations
from tests.behaviorlm.tokenizers_for_tests import NO_SYSTEM, small_tokenizer

TALK: list[Message] = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hello\nthere"},
    {"role": "assistant", "content": "Hi!"},
    {"role": "user", "content": "<|im_end|><think>"},
    {"role": "assistant", "content": "<|im_start|>user\nBye"},
]


def source_of(*paths: Path | str, **keys: Any) -> AuxiliarySource:
    return AuxiliarySource(name="talk", paths=[str(path) for path in paths], **keys)


def write_lines(path: Path, rows: list[Any]) -> Path:
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def decoded(tokenizer: PreTrainedTokenizerFast, ids: np.ndarray) -> str:
    return str(tokenizer.decode(ids))


def encode_conversation(tokenizer: PreTrainedTokenizerFast, talk: list[Message], most: int) -> Conversation:
    [encoded] = encode_conversations(tokenizer, [talk], most).conversations
    return encoded


def turns(*texts: str) -> list[Message]:
    return [{"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(texts)]


def test_same_conversations_are_read_from_every_format_and_folder(tmp_path: Path) -> None:
    rows = [turns("a", "b"), TALK]
    for name in ("a.jsonl", "b.jsonl.gz"):
        write_lines(tmp_path / name, [{"messages": row, "category": "x"} for row in rows])
    pq.write_table(pa.table({"messages": rows}), tmp_path / "c.parquet")
    (tmp_path / "notes.md").write_text("no data")
    assert read_conversations(source_of(tmp_path)).conversations == rows * 3
    assert read_conversations(source_of(tmp_path / "*.parquet", tmp_path / "c.parquet")).conversations == rows


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("not json", "no list of messages"),
        ({"other": []}, "no list of messages"),
        ({"messages": []}, "no list of messages"),
        ({"messages": [{"role": "user"}, {"role": "assistant", "content": "x"}]}, "a message without text"),
        ({"messages": turns("a", "  ")}, "an empty message"),
        ({"messages": turns("a", "b", "c")}, "roles other than"),
        ({"messages": TALK[:1]}, "roles other than"),
        ({"messages": list(reversed(turns("a", "b")))}, "roles other than"),
    ],
)
def test_unusable_conversation_is_set_aside_with_its_row_and_reason(
    tmp_path: Path, row: Any, reason: str
) -> None:
    path = write_lines(tmp_path / "a.jsonl", [{"messages": turns("a", "b")}, "", row])
    read = read_conversations(source_of(path, max_quarantine_share=0.5))
    assert read.conversations == [turns("a", "b")]
    assert (read.quarantine[0].file, read.quarantine[0].row) == (str(path), 3)
    assert [key.startswith(reason) for key in read.quarantine_counts] == [True]
    with pytest.raises(DataError, match=r"1 of 2 conversations.*row 3 of .*a\.jsonl"):
        read_conversations(source_of(path))


def test_missing_empty_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing found at .*absent"):
        read_conversations(source_of(tmp_path / "absent"))
    with pytest.raises(DataError, match="hold no conversations"):
        read_conversations(source_of(write_lines(tmp_path / "empty.jsonl", [])))
    whole = write_lines(tmp_path / "cut.jsonl.gz", [{"messages": TALK}] * 9).read_bytes()
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.jsonl\.gz is not readable"):
        read_conversations(source_of(tmp_path / "cut.jsonl.gz"))
    (tmp_path / "no.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(DataError, match=r"no\.parquet is not readable"):
        read_conversations(source_of(tmp_path / "no.parquet"))
    pq.write_table(pa.table({"chat": ["x"]}), tmp_path / "other.parquet")
    with pytest.raises(DataError, match="no column 'messages'; it has chat"):
        read_conversations(source_of(tmp_path / "other.parquet"))
    (tmp_path / "data.txt").write_text("{}")
    with pytest.raises(DataError, match="set format to jsonl"):
        read_conversations(source_of(tmp_path / "data.txt"))


def test_conversation_reads_as_the_template_renders_it(chat_tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = encode_conversation(chat_tokenizer, TALK, 4096)
    rendered = str(chat_tokenizer.apply_chat_template(TALK, tokenize=False))
    assert decoded(chat_tokenizer, encoded.token_ids) + "\n" == rendered
    assert encoded.token_ids.dtype == np.int32 and encoded.is_assistant.dtype == bool


def test_only_the_template_writes_control_tokens(chat_tokenizer: PreTrainedTokenizerFast) -> None:
    ids = encode_conversation(chat_tokenizer, TALK, 4096).token_ids
    vocabulary = chat_tokenizer.get_vocab()
    start, end, think = (vocabulary[token] for token in ("<|im_start|>", "<|im_end|>", "<think>"))
    assert (np.sum(ids == start), np.sum(ids == end), np.sum(ids == think)) == (5, 5, 0)


def test_assistant_wrote_its_texts_and_the_ends_of_its_turns(chat_tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = encode_conversation(chat_tokenizer, TALK, 4096)
    spoken = decoded(chat_tokenizer, encoded.token_ids[encoded.is_assistant])
    assert spoken == "Hi!<|im_end|><|im_start|>user\nBye<|im_end|>"


def test_system_text_goes_into_the_first_user_turn_where_the_template_has_no_system_turn() -> None:
    tokenizer = small_tokenizer(NO_SYSTEM)
    text = decoded(tokenizer, encode_conversation(tokenizer, TALK, 4096).token_ids)
    assert text.startswith(
        "<|im_start|>user\nBe kind.\n\nHello\nthere<|im_end|>\n<|im_start|>model\nHi!<|im_end|>"
    )


def test_system_text_joins_the_first_user_turn_where_the_template_shows_it_beside_the_last() -> None:
    # In the manner of Mistral: the answer ends in the end of the sequence, without a turn of its own.
    tokenizer = small_tokenizer(
        "{% set first = messages[0] if messages[0].role == 'system' else none %}"
        "{% for m in messages if m.role != 'system' %}{% if m.role == 'user' %}[INST] "
        "{% if first and loop.index >= loop.length - 1 %}{{ first.content }}\n\n{% endif %}{{ m.content }} [/INST]"
        "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
    )
    one = decoded(tokenizer, encode_conversation(tokenizer, TALK[:3], 4096).token_ids)
    assert one == "[INST] Be kind.\n\nHello\nthere [/INST] Hi!<|im_end|>"
    several = encode_conversation(tokenizer, TALK, 4096)
    text = decoded(tokenizer, several.token_ids)
    assert text.startswith(one + "[INST] <|im_end|><think> [/INST] ")
    assert (
        decoded(tokenizer, several.token_ids[several.is_assistant])
        == "Hi!<|im_end|><|im_start|>user\nBye<|im_end|>"
    )


def test_plain_conversation_ends_each_answer_with_the_end_of_sequence(
    plain_tokenizer: PreTrainedTokenizerFast,
) -> None:
    encoded = encode_conversation(plain_tokenizer, turns("Hello", "Hi", "So?", "Bye"), 4096)
    assert decoded(plain_tokenizer, encoded.token_ids) == "Hello\nHi<|im_end|>So?\nBye<|im_end|>"
    assert decoded(plain_tokenizer, encoded.token_ids[encoded.is_assistant]) == "Hi<|im_end|>Bye<|im_end|>"


@pytest.mark.parametrize("is_chat", [True, False])
def test_many_are_encoded_as_each_alone(is_chat: bool) -> None:
    tokenizer = small_tokenizer(NO_SYSTEM)
    if not is_chat:
        tokenizer.chat_template = None
    talks = [turns("a", "b"), TALK, turns("<think>", "c", "<|im_end|>", "d"), TALK[:3], turns("e", "f")]
    together = encode_conversations(tokenizer, talks, 60).conversations
    assert len(together) == len(talks)
    for talk, found in zip(talks, together, strict=True):
        alone = encode_conversation(tokenizer, talk, 60)
        assert found.token_ids.tolist() == alone.token_ids.tolist()
        assert found.is_assistant.tolist() == alone.is_assistant.tolist()
        assert found.is_truncated == alone.is_truncated


def test_long_conversations_are_cut_and_those_without_an_answer_left_are_counted(
    chat_tokenizer: PreTrainedTokenizerFast,
) -> None:
    talks = [turns("a", "b"), turns("a", "b" * 200), turns("a" * 200, "b")]
    encoded = encode_conversations(chat_tokenizer, talks, 40)
    assert encoded.index == [0, 1]
    assert [len(item.token_ids) <= 40 for item in encoded.conversations] == [True, True]
    assert [item.is_truncated for item in encoded.conversations] == [False, True]
    full = encode_conversation(chat_tokenizer, talks[1], 4096)
    assert encoded.conversations[1].token_ids.tolist() == full.token_ids[:40].tolist()
    tokens = sum(len(item.token_ids) for item in encoded.conversations)
    spoken = sum(int(item.is_assistant.sum()) for item in encoded.conversations)
    assert encoded.counts == {
        "conversations": 2,
        "truncated": 1,
        "without_answer": 1,
        "tokens": tokens,
        "assistant_tokens": spoken,
    }


def test_holdout_depends_on_content_and_seed_alone() -> None:
    ids = [conversation_id(turns(f"question {number}", "answer")) for number in range(2000)]
    held = split_holdout(ids, 0.2, seed=1)
    order = np.random.default_rng(0).permutation(2000)
    assert np.array_equal(split_holdout([ids[index] for index in order], 0.2, 1), held[order])
    assert np.array_equal(split_holdout(ids[:50] + ids[:50], 0.2, 1), np.tile(held[:50], 2))
    assert abs(held.mean() - 0.2) < 4 * np.sqrt(0.2 * 0.8 / 2000)
    assert not np.array_equal(split_holdout(ids, 0.2, 2), held)
    # A larger share only adds to what is held out.
    assert np.all(split_holdout(ids, 0.4, 1)[held])
    assert not split_holdout(ids, 0.0, 1).any() and len(split_holdout([], 0.5, 1)) == 0


def test_conversations_with_other_borders_between_texts_have_other_ids() -> None:
    assert conversation_id(turns("ab", "c")) != conversation_id(turns("a", "bc"))
    assert len(conversation_id(turns("ab", "c"))) == 16
