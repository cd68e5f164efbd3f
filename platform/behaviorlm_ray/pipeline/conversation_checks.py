"""Auxiliary conversations before a run: whether the first of each source can be used, and what too few leave out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from behaviorlm.errors import DataError
from behaviorlm.model.base_model import load_tokenizer
from behaviorlm.prompts.config import AuxiliarySource
from behaviorlm.prompts.conversations import conversation_id, read_first_conversations, split_holdout
from behaviorlm.prompts.encoded_conversations import encode_conversations
from behaviorlm_ray.pipeline.settings import RunSettings

MOST_CONVERSATIONS = 500
"""Conversations of a source that are looked at before a run (our choice): read and tokenized within a second or two."""
FEW_HELD_OUT = 20
"""Below so many held-out conversations their loss says little (our choice)."""
HOLDOUT_SEED = 0
"""Which conversations are held out never changes, so that what one model is measured on no other has seen."""


@dataclass(frozen=True)
class FirstConversations:
    """The first conversations of a source: how many there are, usable for training, held out; whether that is all.

    tokens: of a usable one, on average.
    """

    source: AuxiliarySource
    total: int
    training: int
    held_out: int
    are_all: bool
    tokens: float


def read_first(settings: RunSettings) -> list[FirstConversations]:
    """Look at the first conversations of every source, through the base's own chat template.

    Raises DataError where none of a source can be used, ModelError for a template that refuses their roles.
    """
    if not settings.auxiliary:
        return []
    tokenizer = load_tokenizer(settings.model)
    found = []
    for source in settings.auxiliary:
        first = read_first_conversations(source, MOST_CONVERSATIONS)
        encoded = encode_conversations(
            tokenizer, first.read.conversations, source.max_tokens, settings.prompt.chat_template_kwargs
        )
        total = len(first.read.conversations) + len(first.read.quarantine)
        if first.read.conversations and not encoded.index:
            raise DataError(
                f"auxiliary source {source.name!r}: max_tokens {source.max_tokens} cuts each of {total} conversations "
                "before the assistant speaks; raise it"
            )
        ids = [conversation_id(first.read.conversations[index]) for index in encoded.index]
        held_out = int(split_holdout(ids, source.holdout_share, HOLDOUT_SEED).sum())
        tokens = float(np.mean([len(talk.token_ids) for talk in encoded.conversations] or [0]))
        summary = FirstConversations(source, total, len(ids) - held_out, held_out, first.are_all, tokens)
        if first.are_all and source.ratio > 0 and not summary.training:
            raise DataError(
                f"auxiliary source {source.name!r}: none of its {total} conversations is left to train on "
                f"({held_out} held out); give more, lower holdout_share, or set ratio to 0"
            )
        found.append(summary)
    return found


def described(first: FirstConversations) -> str:
    """A source in a plan."""
    source, shown = first.source, "all" if first.are_all else "the first"
    return (
        f"auxiliary {source.name}: {source.ratio:g} per sample, weight {source.weight:g}; of {shown} {first.total:,} "
        f"conversations {first.training:,} for training, {first.held_out:,} held out"
    )


def left_out(source: AuxiliarySource, held_out: int) -> list[str]:
    """What is not measured, or hardly, on a source with so many held-out conversations."""
    if not held_out:
        return [
            f"{source.name}: no conversation is held out (holdout_share {source.holdout_share:g}), so what is left of "
            "general knowledge is not measured on it; give more conversations or a larger holdout_share"
        ]
    if held_out < FEW_HELD_OUT:
        return [
            f"{source.name}: only {held_out} conversations are held out, so their loss says little about what is left "
            "of general knowledge; give more conversations or a larger holdout_share"
        ]
    return []


def left_out_by_all(found: Sequence[FirstConversations]) -> list[str]:
    """What a run with these sources leaves out, as far as their first conversations tell."""
    if not found:
        return ["no auxiliary conversations: what is left of general knowledge is not measured on any"]
    return [line for first in found if first.are_all for line in left_out(first.source, first.held_out)]
