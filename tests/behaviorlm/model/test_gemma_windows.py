"""Gemma 3's two kinds of layers on trees that are deeper than their window, in float64 against its own plain passes.

Six layers in seven see a window of a few tokens, less than a prompt; one sees all. So a mask that counts a window in
flattened tokens, is off by one, or is the same for every layer, gives other numbers.
"""

import copy
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Gemma3TextConfig

from behaviorlm.model.attention import TreeAttention
from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.model.tree_model import TreeModel, pack_tensors
from behaviorlm.scoring.config import Normalization
from behaviorlm.scoring.label_scoring import label_scorer
from behaviorlm.trees.token_tree import TokenTree, plain_sequences
from tests.behaviorlm.tiny_models import COMMON, random_tokens, random_tree, tiny_model, window_writer

WINDOWS = (2, 5, 11)
TERMINATOR = 2


@cache
def gemma(window: int) -> Any:
    """A random model in float64 with seven layers, the sixth without a window."""
    config = Gemma3TextConfig(**COMMON | {"num_hidden_layers": 7}, head_dim=8, sliding_window=window)
    assert (config.layer_types or []).count("full_attention") == 1
    return tiny_model(config).double()


def plain_loss(model: Any, tree: TokenTree) -> torch.Tensor:
    """The weighted loss from one plain pass for each path from the root to a leaf; every read-out once."""
    total = torch.zeros((), dtype=torch.float64)
    for ids, read_outs in plain_sequences(tree):
        assert len(ids) > model.config.sliding_window
        logits = model(input_ids=torch.from_numpy(ids.astype(np.int64))[None]).logits[0]
        chosen = torch.log_softmax(logits, -1)[
            torch.from_numpy(tree.depth[tree.source[read_outs]].astype(np.int64)),
            torch.from_numpy(tree.target[read_outs].astype(np.int64)),
        ]
        total = total - (torch.from_numpy(tree.weight[read_outs]).double() * chosen).sum()
    return total


def tree_loss(
    model: Any, attention: TreeAttention, tree: TokenTree, row_tokens: int | None = None
) -> torch.Tensor:
    loss: torch.Tensor = TreeModel(model, attention, parts=2)(pack_tensors(tree, "cpu", row_tokens))[0]
    return loss


@pytest.mark.parametrize("row_tokens", [None, 48], ids=["one row", "cut into rows"])
@pytest.mark.parametrize("window", WINDOWS)
def test_loss_and_gradients_of_a_tuning_tree_are_those_of_plain_sequences(
    window: int, row_tokens: int | None
) -> None:
    model = copy.deepcopy(gemma(window))
    attention = choose_attention(model)
    assert (attention.kind, attention.window) == ("per_layer", window)
    tree = random_tree(seed=1)
    loss = tree_loss(model, attention, tree, row_tokens)
    loss.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    expected = plain_loss(model, tree)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)  # log-probabilities are float32
    for name, parameter in model.named_parameters():
        scale = parameter.grad.abs().max().clamp(min=1e-6)
        assert (gradients[name] - parameter.grad).abs().max() / scale < 1e-5, name


@pytest.mark.parametrize("wrong", ["one more", "one less", "no window", "the same in every layer"])
@pytest.mark.parametrize("window", WINDOWS)
def test_any_other_mask_gives_another_loss(window: int, wrong: str) -> None:
    model = gemma(window)
    right = choose_attention(model)
    attention = {
        "one more": replace(right, window=window + 1),
        "one less": replace(right, window=window - 1),
        "no window": replace(right, window=None),
        "the same in every layer": replace(right, kind="sliding"),
    }[wrong]
    tree = random_tree(seed=1)
    with torch.no_grad():
        expected = plain_loss(model, tree).item()
        assert tree_loss(model, right, tree).item() == pytest.approx(expected, rel=1e-6)
        assert abs(tree_loss(model, attention, tree).item() - expected) > 1e-3 * abs(expected)


def plain_scores(
    model: Any, prompt: np.ndarray, labels: list[np.ndarray], normalization: Normalization
) -> list[float]:
    """log p of each label from a plain pass for it; with "trie" among the tokens that some label has there."""
    found = []
    for label in labels:
        ids = torch.tensor(np.concatenate([prompt, label]).astype(np.int64))
        with torch.no_grad():
            logits = model(input_ids=ids[None]).logits[0].double()[len(prompt) - 1 : -1]
        if normalization == "trie":
            for at, row in enumerate(logits):
                alike = [other for other in labels if len(other) > at and (other[:at] == label[:at]).all()]
                allowed = torch.tensor(sorted({int(other[at]) for other in alike}))
                row[~torch.isin(torch.arange(len(row)), allowed)] = -torch.inf
        chosen = torch.log_softmax(logits, -1)[range(len(label)), ids[len(prompt) :]]
        found.append(float(chosen.sum()))
    return found


@pytest.mark.parametrize("normalization", ["full", "trie"])
@pytest.mark.parametrize("window", WINDOWS)
def test_label_scores_over_a_trie_are_those_of_plain_sequences(
    window: int, normalization: Normalization
) -> None:
    model = gemma(window)
    random = np.random.default_rng(window)
    # few different tokens, so that names begin alike and stay together for longer than the shortest window
    drawn = {tuple(random.integers(3, 6, random.integers(1, 6)).tolist()) for _ in range(14)}
    labels = [np.array([*name, TERMINATOR], np.int32) for name in sorted(drawn)]
    instruction = random_tokens(random, 4, 6)
    lines = [random_tokens(random, 3, 5) for _ in range(4)]
    questions = [random_tokens(random, 1, 3) for _ in range(4)]
    expected = [
        plain_scores(
            model, np.concatenate([instruction, *lines[: row + 1], questions[row]]), labels, normalization
        )
        for row in range(4)
    ]
    for max_tokens in (1000, 9):
        scorer = label_scorer(model, choose_attention(model), labels, max_tokens, normalization)
        scores = scorer.score(window_writer(instruction, lines, questions))
        np.testing.assert_allclose(scores, expected, rtol=0, atol=2e-5)  # scores are float32
