"""Whether a base model has learned what follows from what: it is asked about people whom it has not read of."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from behaviorlm_lab.pretraining.documents import Chat
from behaviorlm_lab.world.generator import Generator

PROBE_CHATS = 600
"""Lives that are looked at; about a third of them end with an effect."""


@dataclass(frozen=True)
class Probe:
    """Chats whose answer is an effect of something in their history, and the rare behaviors' tokens int64[R]."""

    chats: tuple[Chat, ...]
    rare: torch.Tensor

    def share_named(self, model: LlamaForCausalLM) -> float:
        """Share of the chats in which the answer is the likeliest of the rare behaviors; without chats 0."""
        hits = 0
        with torch.no_grad():
            for chat in self.chats:
                prompt = torch.tensor([chat.tokens[: chat.question]])
                scores = model(input_ids=prompt, logits_to_keep=1).logits[0, -1, self.rare]
                hits += int(self.rare[scores.argmax()] == chat.tokens[chat.question])
        return round(hits / max(1, len(self.chats)), 5)


def probe_of(tokenizer: PreTrainedTokenizerBase, people: Generator, held_out: Iterable[Chat]) -> Probe:
    """The probe from held-out chats; every behavior is one token."""
    links = set(people.links)
    asked = tuple(
        chat
        for chat in held_out
        if any((cause, chat.behaviors[-1]) in links for cause in chat.behaviors[:-1])
    )
    rare = [name for name, is_common in zip(people.names, people.is_common, strict=True) if not is_common]
    tokens = [tokenizer.encode(f" {name}", add_special_tokens=False)[0] for name in rare]
    return Probe(asked, torch.tensor(tokens))
