"""The pull to a reference among the tail: in float64 what plain sequences give, one for each beginning of each name."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import behaviorlm.model.lm_head
from behaviorlm.model.attention import TreeAttention
from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.model.kept_tail import kept_tail
from behaviorlm.model.tree_model import TreeModel, pack_tensors
from behaviorlm.trees.closed_trie import ClosedTrie, build_closed_trie
from behaviorlm.trees.token_tree import Int32, TokenTree, TreeWriter
from tests.behaviorlm.model.exact_models import gradients, model_of
from tests.behaviorlm.tiny_models import random_tokens

TEMPERATURE = 1.7
LABELS = [
    np.array([*name, 2], np.int32)
    for name in (
        [5],
        [5, 6],
        [5, 6, 7],
        [5, 6, 8],
        [9, 10, 11],
        [9, 10, 12],
        [13, 14],
        [13, 14, 15],
        [20, 21, 22],
    )
]
TAIL = np.array([1, 3, 5, 6])


def tail_trie() -> ClosedTrie:
    return build_closed_trie(LABELS, 1 << 40).among(TAIL)


def pack(seed: int) -> tuple[TokenTree, list[Int32], np.ndarray, np.ndarray]:
    """A window of three samples, the last two kept: (tree, their prompts, their weights, their references [2, T])."""
    random = np.random.default_rng(seed)
    references = np.log(random.dirichlet(np.ones(len(TAIL)), 2)).astype(np.float32)
    weights = np.array([0.25, 0.5], np.float32)
    trie = tail_trie()
    (piece,) = trie.pieces
    writer, prompts = TreeWriter(), []
    so_far = random_tokens(random, 4, 8)
    writer.open(so_far)
    for item in range(3):
        line, question = random_tokens(random, 2, 4), random_tokens(random, 1, 3)
        writer.open(line)
        so_far = np.concatenate([so_far, line])
        writer.open(question)
        writer.chain(LABELS[random.integers(len(LABELS))], weight=0.3, part=0, item=item)
        if item:
            prompts.append(np.concatenate([so_far, question]))
            writer.kept_sample(
                piece.tree,
                piece.places,
                weight=float(weights[item - 1]),
                reference=references[item - 1],
                part=1,
            )
        writer.close()
    return writer.finish(), prompts, weights, references


def log_p_of_names(model: Any, prompt: Int32, labels: Sequence[Int32]) -> Tensor:
    """log p of every name: at each token a softmax over what may follow in any name; float64 [K]."""
    names = [label.tolist() for label in labels]
    found = []
    for name in names:
        total = torch.zeros((), dtype=torch.float64)
        for length in range(len(name)):
            ids = torch.tensor([[*prompt.tolist(), *name[:length]]])
            following = sorted({other[length] for other in names if other[:length] == name[:length]})
            choices = torch.log_softmax(model(input_ids=ids).logits[0, -1].double()[following], -1)
            total = total + choices[following.index(name[length])]
        found.append(total)
    return torch.stack(found)


def expected(model: Any, prompts: list[Int32], weights: np.ndarray, references: np.ndarray) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for prompt, weight, reference in zip(prompts, weights, references, strict=True):
        p = torch.log_softmax(log_p_of_names(model, prompt, LABELS)[TAIL] / TEMPERATURE, -1)
        q = torch.from_numpy(reference).double()
        total = total + float(weight) * TEMPERATURE**2 * (q.exp() * (q - p)).sum()
    return total


@pytest.mark.parametrize("head_rows", [1024, 1])
@pytest.mark.parametrize("kind", ["full", "tied", "gpt2", "gemma3", "adapters", "adapters, one on the head"])
def test_its_value_and_gradient_are_those_of_plain_sequences(
    kind: str, head_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(behaviorlm.model.lm_head, "HEAD_ROWS", head_rows)
    model = model_of(kind)
    tree, prompts, weights, references = pack(seed=1)
    batch = pack_tensors(tree, "cpu")
    tree_model = TreeModel(model, choose_attention(model), 2, kept_tail=kept_tail(tail_trie(), TEMPERATURE))
    loss, parts, nll = tree_model(batch)
    loss.backward()
    found = gradients(model)
    likelihood = -torch.zeros((), dtype=torch.float64)
    for source, target, weight, item in zip(tree.source, tree.target, tree.weight, tree.item, strict=True):
        if item >= 0:
            ids = torch.from_numpy(tree.token_ids[tree.path_to(int(source))].astype(np.int64))
            logits = model(input_ids=ids[None]).logits[0, -1].double()
            likelihood = likelihood - float(weight) * torch.log_softmax(logits, -1)[int(target)]
    pull = expected(model, prompts, weights, references)
    assert pull.item() > 0.01
    (likelihood + pull).backward()
    assert parts[1].item() == pytest.approx(pull.item(), rel=1e-9)
    assert loss.item() == pytest.approx((likelihood + pull).item(), rel=1e-9)
    assert not nll[tree.item < 0].any()
    for name, gradient in gradients(model).items():
        assert (found[name] - gradient).norm() <= 1e-9 * gradient.norm(), name


def test_plain_sequences_give_the_same() -> None:
    model, (tree, *_) = model_of("full"), pack(seed=2)
    losses = [
        TreeModel(model, TreeAttention(kind), 2, kept_tail=kept_tail(tail_trie(), 1.0))(
            pack_tensors(tree, "cpu")
        )[0]
        for kind in ("full", "plain")
    ]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-9)


def test_a_model_that_has_not_moved_from_its_reference_is_not_pulled() -> None:
    model = model_of("full")
    tree, prompts, *_ = pack(seed=3)
    tree_model = TreeModel(model, choose_attention(model), 2, kept_tail=kept_tail(tail_trie(), TEMPERATURE))
    own = torch.stack(
        [
            torch.log_softmax(log_p_of_names(model, prompt, LABELS)[TAIL] / TEMPERATURE, -1)
            for prompt in prompts
        ]
    )
    assert tree.kept is not None
    held = dataclasses.replace(tree.kept, reference=own.detach().numpy())
    _, parts, _ = tree_model(pack_tensors(dataclasses.replace(tree, kept=held), "cpu"))
    assert parts[1].item() == pytest.approx(0, abs=1e-12)
