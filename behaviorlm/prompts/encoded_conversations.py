"""Conversations as tokens: which of them the assistant wrote, and so which are learned from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from behaviorlm.errors import ModelError
from behaviorlm.prompts.chat_layout import SegmentEncoder, leading_ids, turn_end, turn_pieces
from behaviorlm.prompts.conversations import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase  # with torch behind it: not only to plan


@dataclass(frozen=True)
class Conversation:
    """Tokens of one conversation, int32[L], and which the assistant wrote (turn ends included), bool[L]."""

    token_ids: np.ndarray
    is_assistant: np.ndarray
    is_truncated: bool


@dataclass(frozen=True)
class EncodedConversations:
    """Conversations ready for training. `index`: which of the given ones each is. `counts`: of all."""

    conversations: list[Conversation]
    index: list[int]
    counts: dict[str, int] = field(default_factory=dict)


def encode_conversation(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Message],
    max_tokens: int,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> Conversation:
    """One conversation through the tokenizer's chat template, or as plain lines where it has none.

    Every message is a segment of its own in which control-token text is inert; the end of each assistant turn
    belongs to the assistant. Cut to `max_tokens`. Raises ModelError for a template that refuses the roles.
    """
    return _encode(tokenizer, SegmentEncoder(tokenizer), messages, max_tokens, chat_template_kwargs or {})


def encode_conversations(
    tokenizer: "PreTrainedTokenizerBase",
    conversations: Sequence[Sequence[Message]],
    max_tokens: int,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> EncodedConversations:
    """`encode_conversation` of each. Those cut before the assistant speaks have no loss and are left out.

    Counts: `conversations`, `truncated`, `without_answer`, `tokens`, `assistant_tokens` (the last two of
    those kept).
    """
    segments = SegmentEncoder(tokenizer)
    kept: list[Conversation] = []
    index: list[int] = []
    for position, messages in enumerate(conversations):
        encoded = _encode(tokenizer, segments, messages, max_tokens, chat_template_kwargs or {})
        if encoded.is_assistant.any():
            kept.append(encoded)
            index.append(position)
    counts = {
        "conversations": len(kept),
        "truncated": sum(item.is_truncated for item in kept),
        "without_answer": len(conversations) - len(kept),
        "tokens": sum(len(item.token_ids) for item in kept),
        "assistant_tokens": sum(int(item.is_assistant.sum()) for item in kept),
    }
    return EncodedConversations(kept, index, counts)


def _encode(
    tokenizer: "PreTrainedTokenizerBase",
    segments: SegmentEncoder,
    messages: Sequence[Message],
    max_tokens: int,
    options: Mapping[str, Any],
) -> Conversation:
    if tokenizer.chat_template is None:
        runs = _plain_runs(tokenizer, segments, messages)
    else:
        runs = _chat_runs(tokenizer, segments, messages, options)
    token_ids = np.concatenate([np.array(ids, np.int32) for ids, _ in runs])
    is_assistant = np.concatenate([np.full(len(ids), by_assistant) for ids, by_assistant in runs])
    return Conversation(token_ids[:max_tokens], is_assistant[:max_tokens], len(token_ids) > max_tokens)


def _chat_runs(
    tokenizer: "PreTrainedTokenizerBase",
    segments: SegmentEncoder,
    messages: Sequence[Message],
    options: Mapping[str, Any],
) -> list[tuple[list[int], bool]]:
    """(tokens, whether the assistant wrote them), run by run."""
    try:
        written = turn_pieces(tokenizer, [message["role"] for message in messages], options)
    except ModelError:
        if messages[0]["role"] != "system":
            raise
        # Templates without a system turn refuse or drop it; some show it beside the last user turn only.
        system, user, *others = messages
        messages = [{"role": "user", "content": f"{system['content']}\n\n{user['content']}"}, *others]
        written = turn_pieces(tokenizer, [message["role"] for message in messages], options)
    roles = [message["role"] for message in messages]
    texts = segments.data([message["content"] for message in messages])
    pieces = [segments.template(piece) for piece in written]
    runs = [(pieces[0], False)]
    for role, text, piece in zip(roles, texts, pieces[1:], strict=True):
        runs.append((text, role == "assistant"))
        if role != "assistant":
            runs.append((piece, False))
            continue
        ending = turn_end(tokenizer, piece, segments.control_ids)
        runs.append((ending, True))
        runs.append((piece[len(ending) :] if piece[: len(ending)] == ending else piece, False))
    # What a template writes after the last turn is never predicted.
    return runs[:-1] if roles[-1] == "assistant" else runs


def _plain_runs(
    tokenizer: "PreTrainedTokenizerBase", segments: SegmentEncoder, messages: Sequence[Message]
) -> list[tuple[list[int], bool]]:
    line_break = segments.data(["\n"])[0]
    ending = line_break if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    runs = [(leading_ids(tokenizer), False)]
    for message, text in zip(
        messages, segments.data([message["content"] for message in messages]), strict=True
    ):
        by_assistant = message["role"] == "assistant"
        runs.append((text + (ending if by_assistant else line_break), by_assistant))
    return runs
