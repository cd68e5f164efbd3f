"""Conversations as tokens: which of them the assistant wrote, and so which are learned from."""

from collections.abc import Iterator, Mapping, Sequence
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


def encode_conversations(
    tokenizer: "PreTrainedTokenizerBase",
    conversations: Sequence[Sequence[Message]],
    max_tokens: int,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> EncodedConversations:
    """Conversations through the tokenizer's chat template, or as plain lines where it has none.

    Every message is a segment of its own in which control-token text is inert; the end of each assistant turn
    belongs to the assistant. Each is cut to `max_tokens`; those cut before the assistant speaks have no loss and are
    left out. Raises ModelError for a template that refuses the roles.

    Counts: `conversations`, `truncated`, `without_answer`, `tokens`, `assistant_tokens` (the last two of
    those kept).
    """
    kept: list[Conversation] = []
    index: list[int] = []
    encoded = _encoded(tokenizer, conversations, max_tokens, chat_template_kwargs or {})
    for position, conversation in enumerate(encoded):
        if conversation.is_assistant.any():
            kept.append(conversation)
            index.append(position)
    counts = {
        "conversations": len(kept),
        "truncated": sum(item.is_truncated for item in kept),
        "without_answer": len(conversations) - len(kept),
        "tokens": sum(len(item.token_ids) for item in kept),
        "assistant_tokens": sum(int(item.is_assistant.sum()) for item in kept),
    }
    return EncodedConversations(kept, index, counts)


_Run = tuple[list[int], bool]
"""Tokens, and whether the assistant wrote them."""


@dataclass(frozen=True)
class _Layout:
    """What stands before the first text of conversations with the same roles, and after each; whether the text of a
    system turn is put before the first of the user, as templates without such turns need it.
    """

    before: list[int]
    after: list[list[_Run]]
    joins_system: bool = False


def _encoded(
    tokenizer: "PreTrainedTokenizerBase",
    conversations: Sequence[Sequence[Message]],
    max_tokens: int,
    options: Mapping[str, Any],
) -> Iterator[Conversation]:
    """Each of them; all texts go through the tokenizer together, and each order of roles through the template once."""
    segments = SegmentEncoder(tokenizer)
    laid_out: dict[tuple[str, ...], _Layout] = {}
    layouts: list[_Layout] = []
    talks: list[Sequence[Message]] = []
    for messages in conversations:
        roles = tuple(message["role"] for message in messages)
        if roles not in laid_out:
            laid_out[roles] = _layout(tokenizer, segments, roles, options)
        layouts.append(laid_out[roles])
        talks.append(_joined(messages) if layouts[-1].joins_system else messages)
    texts = iter(segments.data([message["content"] for messages in talks for message in messages]))
    for layout, messages in zip(layouts, talks, strict=True):
        runs: list[_Run] = [(layout.before, False)]
        for message, after in zip(messages, layout.after, strict=True):
            runs += [(next(texts), message["role"] == "assistant"), *after]
        token_ids = np.concatenate([np.array(ids, np.int32) for ids, _ in runs])
        is_assistant = np.concatenate([np.full(len(ids), by_assistant) for ids, by_assistant in runs])
        yield Conversation(token_ids[:max_tokens], is_assistant[:max_tokens], len(token_ids) > max_tokens)


def _joined(messages: Sequence[Message]) -> list[Message]:
    system, user, *others = messages
    return [{"role": "user", "content": f"{system['content']}\n\n{user['content']}"}, *others]


def _layout(
    tokenizer: "PreTrainedTokenizerBase",
    segments: SegmentEncoder,
    roles: Sequence[str],
    options: Mapping[str, Any],
) -> _Layout:
    if tokenizer.chat_template is None:
        return _plain_layout(tokenizer, segments, roles)
    joins_system = False
    try:
        written = turn_pieces(tokenizer, roles, options)
    except ModelError:
        if roles[0] != "system":
            raise
        # Templates without a system turn refuse or drop it; some show it beside the last user turn only.
        joins_system, roles = True, ["user", *roles[2:]]
        written = turn_pieces(tokenizer, roles, options)
    before, *pieces = [segments.template(piece) for piece in written]
    after: list[list[_Run]] = []
    for role, piece in zip(roles, pieces, strict=True):
        if role != "assistant":
            after.append([(piece, False)])
            continue
        ending = turn_end(tokenizer, piece, segments.control_ids)
        rest = piece[len(ending) :] if piece[: len(ending)] == ending else piece
        after.append([(ending, True), (rest, False)])
    if roles[-1] == "assistant":  # what a template writes after the last turn is never predicted
        after[-1].pop()
    return _Layout(before, after, joins_system)


def _plain_layout(
    tokenizer: "PreTrainedTokenizerBase", segments: SegmentEncoder, roles: Sequence[str]
) -> _Layout:
    line_break = segments.data(["\n"])[0]
    ending = line_break if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    after: list[list[_Run]] = [
        [(ending, True)] if role == "assistant" else [(line_break, False)] for role in roles
    ]
    return _Layout(leading_ids(tokenizer), after)
