"""Segments of a prompt as tokens: the pieces of a chat template, and data in which control tokens stay inert.

A prompt is joined from segments that are encoded on their own. The pieces that a chat template writes may
hold control tokens; everything that comes from a log, a config or a conversation may not, whatever its text
says.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from behaviorlm.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase  # with torch behind it: not only to read a config

# Some templates print today's date; a prompt must not depend on the day on which it was made.
_FIXED_DATE = datetime(2024, 7, 26)
_CALL_OF_TODAY = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""")


class SegmentEncoder:
    """Encodes segments of a prompt on their own, for one tokenizer."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self.tokenizer = tokenizer
        self.control_ids = _control_ids(tokenizer)
        self._anchor = self._encode(["\n"], inert=True)[0]
        # Tokenizers in the manner of SentencePiece put a space before whatever they are given, so that a
        # segment would cost a token more and read differently from the same text inside a line.
        self._adds_space = (
            self._after_newline("a", self._encode(["\na"], inert=True)[0]) != self._encode(["a"], True)[0]
        )

    def data(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts that are data: text that spells a control token becomes ordinary tokens."""
        encoded = self._segments(list(texts), inert=True)
        for index, ids in enumerate(encoded):
            if not self.control_ids.isdisjoint(ids):
                # Added tokens that are not marked special are matched in any case, but never in single
                # characters.
                encoded[index] = [
                    token for ids in self._segments(list(texts[index]), inert=True) for token in ids
                ]
        return encoded

    def template(self, text: str) -> list[int]:
        """Token ids of a piece that the chat template wrote, in which control tokens are meant."""
        return self._segments([text], inert=False)[0]

    def _segments(self, texts: list[str], inert: bool) -> list[list[int]]:
        if not self._adds_space:
            return self._encode(texts, inert)
        encoded = self._encode(["\n" + text for text in texts], inert)
        return [
            [] if not text else self._after_newline(text, ids, inert)
            for text, ids in zip(texts, encoded, strict=True)
        ]

    def _after_newline(self, text: str, ids: list[int], inert: bool = True) -> list[int]:
        """The ids of `text` within those of a newline and `text`, unless the two merged."""
        if ids[: len(self._anchor)] == self._anchor:
            return ids[len(self._anchor) :]
        return self._encode([text], inert)[0]

    def _encode(self, texts: list[str], inert: bool) -> list[list[int]]:
        if not texts:
            return []
        encoded = self.tokenizer(
            texts,
            add_special_tokens=False,
            split_special_tokens=inert,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        return [list(ids) for ids in encoded["input_ids"]]


def turn_pieces(
    tokenizer: "PreTrainedTokenizerBase", roles: Sequence[str], template_options: Mapping[str, Any]
) -> list[str]:
    """What the chat template writes around the texts of turns with these roles: one piece more than roles.

    Raises ModelError where the template refuses the roles or does not show every turn's text once and in
    order.
    """
    marks = [f"xq{index}textofturn{index}qx" for index in range(len(roles))]
    messages = [{"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)]
    try:
        template = _CALL_OF_TODAY.sub(
            lambda call: repr(_FIXED_DATE.strftime(call.group(2))), tokenizer.get_chat_template()
        )
        rendered = tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=False, **template_options
        )
    # A template is code that somebody wrote: it raises what it will, and what the sandbox it runs in raises.
    except Exception as error:
        raise ModelError(
            f"the tokenizer's chat template refuses turns of {', '.join(roles)}: {error}. "
            "Set prompt.chat_template_kwargs to what the template asks for, or remove the template from the "
            "tokenizer"
        ) from None
    pieces: list[str] = []
    rest = str(rendered)
    for role, mark in zip(roles, marks, strict=True):
        before, found, rest = rest.partition(mark)
        if not found or mark in rest:
            raise ModelError(
                f"the tokenizer's chat template does not show the text of the {role} turn exactly once and "
                "in order; set prompt.chat_template_kwargs so that it does, or remove the template from the "
                "tokenizer"
            )
        pieces.append(before)
    return [*pieces, rest]


def has_system_turn(tokenizer: "PreTrainedTokenizerBase", template_options: Mapping[str, Any]) -> bool:
    """Whether the chat template takes a system turn and shows it. Those without refuse it or drop it."""
    try:
        turn_pieces(tokenizer, ["system", "user", "assistant"], template_options)
    except ModelError:
        return False
    return True


def leading_ids(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """What the tokenizer puts before any plain text: the begin-of-sequence token of those that have one."""
    bos = tokenizer.bos_token_id
    return [bos] if bos is not None and list(tokenizer("")["input_ids"])[:1] == [bos] else []


def turn_end(
    tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int], control_ids: frozenset[int]
) -> list[int]:
    """The tokens that end an assistant's turn, given those of what the template writes after its text.

    They run through the first control token. A template that writes none there gets the end-of-sequence
    token.
    """
    for index, token in enumerate(ids):
        if token in control_ids:
            return list(ids[: index + 1])
    if tokenizer.eos_token_id is None:
        raise ModelError(
            "the chat template ends an assistant turn without a control token, and the tokenizer has no "
            "end-of-sequence token; set eos_token in tokenizer_config.json"
        )
    return [tokenizer.eos_token_id]


def _control_ids(tokenizer: "PreTrainedTokenizerBase") -> frozenset[int]:
    """Ids of added tokens that a text must never produce by spelling them."""
    ids = {
        token_id
        for token_id, token in tokenizer.added_tokens_decoder.items()
        if token.special or len(token.content.strip()) > 1
    }
    # An unknown character is no control token, as long as the token for it serves nothing else.
    unknown = tokenizer.unk_token_id
    if unknown is not None and unknown not in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        ids.discard(unknown)
    return frozenset(ids)
