"""Focal loss and the softmax over allowed tokens: in float64 what plain sequences give, gradients included."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import behaviorlm.model.lm_head
from behaviorlm.model.allowed_tokens import allowed_tokens
from behaviorlm.model.attention import TreeAttention
from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.model.tree_model import TreeModel, pack_tensors
from behaviorlm.scoring.label_scoring import label_scorer
from behaviorlm.training.packs import empty_pack
from behaviorlm.trees.token_tree import TokenTree, TreeWriter
from tests.behaviorlm.model.exact_models import gradients, model_of
from tests.behaviorlm.model.test_kept_tail import LABELS
from tests.behaviorlm.tiny_models import random_tokens

TOKENS = np.unique(np.concatenate(LABELS)).astype(np.int64)


def pack(seed: int) -> tuple[TokenTree, list[tuple[list[int], int, float]], tuple[list[int], float]]:
    """Three samples of a window and a conversation: (tree, (prompt, label, weight) of each, (tokens, weight))."""
    random = np.random.default_rng(seed)
    writer, samples = TreeWriter(), []
    so_far = random_tokens(random, 4, 8)
    writer.open(so_far)
    for item in range(3):
        line, question = random_tokens(random, 2, 4), random_tokens(random, 1, 3)
        writer.open(line)
        so_far = np.concatenate([so_far, line])
        writer.open(question)
        label, weight = int(random.integers(len(LABELS))), float(np.float32(random.uniform(0.1, 0.6)))
        writer.chain(LABELS[label], weight=weight, part=0, item=item)
        samples.append(([*so_far.tolist(), *question.tolist()], label, weight))
        writer.close()
    while len(writer._open):
        writer.close()
    talk = random_tokens(random, 5, 6)
    writer.chain(talk, np.arange(len(talk)) >= 3, weight=0.125, part=1, item=3)
    return writer.finish(), samples, (talk.tolist(), 0.125)


def plain_loss(model: Any, seed: int, focal: float, temperature: float | None) -> torch.Tensor:
    """temperature: None: over the whole vocabulary, else over what may follow."""
    _, samples, (talk, talk_weight) = pack(seed)
    total = torch.zeros((), dtype=torch.float64)
    names = [label.tolist() for label in LABELS]
    for prompt, number, weight in samples:
        p = torch.ones((), dtype=torch.float64)
        name = names[number]
        for length in range(len(name)):
            logits = model(input_ids=torch.tensor([[*prompt, *name[:length]]])).logits[0, -1].double()
            may = sorted({other[length] for other in names if other[:length] == name[:length]})
            if temperature is None:
                p = p * torch.softmax(logits, -1)[name[length]]
            else:
                p = p * torch.softmax(logits[may] / temperature, -1)[may.index(name[length])]
        total = total - weight * (1 - p) ** focal * p.log()
    for place in range(3, len(talk)):
        logits = model(input_ids=torch.tensor([talk[:place]])).logits[0, -1].double()
        total = total - talk_weight * torch.log_softmax(logits, -1)[talk[place]]
    return total


def tree_model_of(model: Any, focal: float, temperature: float | None) -> TreeModel:
    allowed = None if temperature is None else allowed_tokens(LABELS, temperature)
    tokens = None if temperature is None else TOKENS
    return TreeModel(model, choose_attention(model), 2, tokens, None, allowed, focal)


@pytest.mark.parametrize("head_rows", [1024, 4])
@pytest.mark.parametrize("kind", ["full", "gpt2", "gemma3", "adapters, one on the head"])
@pytest.mark.parametrize(("focal", "temperature"), [(2.0, None), (0.0, 1.7), (0.5, 0.6)])
def test_value_and_gradient_are_those_of_plain_sequences(
    kind: str, focal: float, temperature: float | None, head_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(behaviorlm.model.lm_head, "HEAD_ROWS", head_rows)
    model, (tree, *_) = model_of(kind), pack(3)
    loss, parts, _ = tree_model_of(model, focal, temperature)(pack_tensors(tree, "cpu"))
    loss.backward()
    found = gradients(model)
    wanted = plain_loss(model, 3, focal, temperature)
    wanted.backward()
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-9)
    assert parts.sum().item() == pytest.approx(wanted.item(), rel=1e-9)
    for name, gradient in gradients(model).items():
        assert (found[name] - gradient).norm() <= 1e-9 * gradient.norm() + 1e-15, name


def test_plain_sequences_as_a_fallback_give_the_same() -> None:
    model, (tree, *_) = model_of("full"), pack(4)
    allowed = allowed_tokens(LABELS, 1.3)
    losses = [
        TreeModel(model, TreeAttention(kind), 2, TOKENS, None, allowed, 2.0)(pack_tensors(tree, "cpu"))[0]
        for kind in ("full", "plain")
    ]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-9)


@pytest.mark.parametrize("temperature", [None, 1.5])
def test_an_empty_pack_adds_nothing(temperature: float | None) -> None:
    model = model_of("full")
    loss, _, _ = tree_model_of(model, 2.0, temperature)(pack_tensors(empty_pack(), "cpu"))
    loss.backward()
    assert loss.item() == 0
    assert all(not gradient.any() for gradient in gradients(model).values())


def test_a_certain_sample_has_a_finite_gradient_for_an_exponent_below_1() -> None:
    model = model_of("full")
    only = [np.array([5, 6, 2], np.int32)]
    writer = TreeWriter()
    writer.open(np.array([3, 4], np.int32))
    writer.chain(only[0], weight=1.0, part=0, item=0)
    tokens, allowed = np.array([2, 5, 6]), allowed_tokens(only, 1.0)
    loss, _, _ = TreeModel(model, choose_attention(model), 1, tokens, None, allowed, 0.5)(
        pack_tensors(writer.finish(), "cpu")
    )
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert all(torch.isfinite(gradient).all() for gradient in gradients(model).values())


def test_the_loss_over_allowed_tokens_is_what_the_tuned_model_is_scored_by() -> None:
    model, (tree, samples, _) = model_of("full"), pack(5)
    attention = choose_attention(model)
    allowed = allowed_tokens(LABELS, 1.7)
    _, parts, _ = TreeModel(model, attention, 2, TOKENS, None, allowed)(pack_tensors(tree, "cpu"))
    scorer = label_scorer(model, attention, LABELS, 1000, "trie", 1.7)
    total = 0.0
    for prompt, label, weight in samples:
        total -= weight * float(scorer.score(partial(_leaf, np.array(prompt, np.int32)))[0, label])
    assert parts[0].item() == pytest.approx(total, rel=1e-6)


def _leaf(ids: NDArray[np.int32], writer: TreeWriter) -> list[int]:
    """The whole of a prompt that shares nothing."""
    return [writer.leaf(ids)]
