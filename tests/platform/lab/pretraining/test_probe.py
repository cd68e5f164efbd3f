"""The probe asks about effects whose cause was told, and counts those that are the likeliest of what is rare."""

from pathlib import Path

from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from behaviorlm_lab.pretraining.base_model import make_base_model
from behaviorlm_lab.pretraining.documents import HELD_OUT, READ, chats
from behaviorlm_lab.pretraining.people import invented_people
from behaviorlm_lab.pretraining.probe import probe_of
from behaviorlm_lab.world.process import default_world
from tests.platform.lab.little_text import little_text


def test_what_is_asked_and_what_counts(tmp_path: Path) -> None:
    with little_text():
        folder = make_base_model(tmp_path / "base", steps=2, size="small")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    model = LlamaForCausalLM.from_pretrained(folder).eval().requires_grad_(False)
    world = default_world()
    people = invented_people(world, 0)
    held_out = list(chats(tokenizer, people, 120, HELD_OUT))
    probe = probe_of(tokenizer, people, held_out)
    asked = [
        (tokenizer.decode(chat.tokens[: chat.question]), chat.behaviors[-1])
        for chat in held_out
        if any(effect == chat.behaviors[-1] and cause in chat.behaviors[:-1] for cause, effect in world.links)
    ]
    assert 20 < len(asked) == len(probe.chats) < 80
    hits = 0
    for text, answer in asked:
        logits = model(**tokenizer(text, add_special_tokens=False, return_tensors="pt")).logits[0, -1]
        score = {name: float(logits[tokenizer.convert_tokens_to_ids(tokenizer.tokenize(f" {name}"))[0]])
                 for name, is_common in zip(world.names, world.is_common, strict=True) if not is_common}  # fmt: skip
        hits += max(score, key=score.__getitem__) == answer
    assert probe.share_named(model) == round(hits / len(asked), 5)


def test_lives_that_are_asked_about_are_not_those_that_are_read(tmp_path: Path) -> None:
    people = invented_people(default_world(), 0)
    with little_text():
        folder = make_base_model(tmp_path / "base", steps=0, size="small")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    read, held_out = (
        {tuple(chat.tokens) for chat in chats(tokenizer, people, 48, lives)} for lives in (READ, HELD_OUT)
    )
    assert len(read) == len(held_out) == 48 and not read & held_out
