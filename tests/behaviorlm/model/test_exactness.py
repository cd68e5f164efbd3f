"""Trees give the numbers of plain sequences: loss, gradients and label scores, for each supported architecture."""

import itertools
import logging

import numpy as np
import pytest
import torch
from transformers import PretrainedConfig, PreTrainedModel

from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.model.tree_model import TreeModel, pack_tensors
from behaviorlm.scoring.label_scoring import label_scorer
from behaviorlm.trees.token_tree import TokenTree
from tests.behaviorlm.tiny_models import (
    CONFIGS,
    RECURRENT,
    random_tokens,
    random_tree,
    tiny_model,
    window_writer,
)

ARCHITECTURES = [pytest.param(config, id=name) for name, config in CONFIGS.items()]


def plain_loss(model: PreTrainedModel, tree: TokenTree) -> torch.Tensor:
    """Sum of weighted NLL, one plain forward pass of the model for each read-out, ancestors found by walking up."""
    parents = np.full(len(tree), -1)
    for token in range(len(tree)):
        above = [j for j in range(token) if j < token < tree.end[j]]
        parents[token] = above[-1] if above else -1
    total = torch.zeros(())
    for source, target, weight in zip(tree.source, tree.target, tree.weight, strict=True):
        path = [int(source)]
        while parents[path[-1]] >= 0:
            path.append(parents[path[-1]])
        ids = torch.tensor(tree.token_ids[path[::-1]].astype(np.int64))
        logits = model(input_ids=ids[None]).logits[0, -1]
        total = total - float(weight) * torch.log_softmax(logits, -1)[int(target)]
    return total


@pytest.mark.parametrize("config", ARCHITECTURES)
def test_loss_and_gradients_of_a_tree_equal_those_of_plain_sequences(config: PretrainedConfig) -> None:
    model = tiny_model(config)
    attention = choose_attention(model)
    assert attention.kind != "plain"
    tree = random_tree(seed=1)
    loss, parts, _ = TreeModel(model, attention, parts=2)(pack_tensors(tree, "cpu"))
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    expected = plain_loss(model, tree)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert parts.sum().item() == pytest.approx(expected.item(), rel=1e-5)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            scale = parameter.grad.abs().max().clamp(min=1e-6)
            assert (gradients[name] - parameter.grad).abs().max() / scale < 2e-5, name


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("config", ARCHITECTURES)
def test_label_scores_equal_one_plain_pass_for_each_label(config: PretrainedConfig, seed: int) -> None:
    model = tiny_model(config, seed)
    random = np.random.default_rng(seed)
    labels = [np.append(random_tokens(random, 1, 4), 2).astype(np.int32) for _ in range(12)]
    labels = [*{tuple(label.tolist()): label for label in labels}.values()]
    instruction = random_tokens(random, 3, 6)
    lines = [random_tokens(random, 3, 5) for _ in range(4)]
    questions = [random_tokens(random, 1, 3) for _ in range(4)]
    write = window_writer(instruction, lines, questions)

    expected = np.empty((4, len(labels)))
    for row, length in itertools.product(range(4), sorted({len(label) for label in labels})):
        prompt = np.concatenate([instruction, *lines[: row + 1], questions[row]])
        columns = [column for column, label in enumerate(labels) if len(label) == length]
        ids = torch.tensor(
            np.stack([np.concatenate([prompt, labels[column]]) for column in columns]).astype(np.int64)
        )
        with torch.no_grad():  # a batch of plain sequences of one length
            log_probabilities = torch.log_softmax(model(input_ids=ids).logits.double(), -1)
        told = log_probabilities[:, len(prompt) - 1 : -1].gather(2, ids[:, len(prompt) :, None])
        expected[row, columns] = told[:, :, 0].sum(1).numpy()
    attention = choose_attention(model)
    for max_tokens in (1000, 9):
        scorer = label_scorer(model, attention, labels, max_tokens)
        assert scorer.score(write) == pytest.approx(expected, abs=1e-4, rel=0)


def test_a_recurrent_model_falls_back_to_plain_sequences_says_so_and_gives_the_same_numbers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = tiny_model(RECURRENT)
    with caplog.at_level(logging.WARNING):
        attention = choose_attention(model)
    assert attention.kind == "plain"
    assert "model: " in caplog.text and "plain sequences are used" in caplog.text
    tree = random_tree(seed=3)
    loss, _, _ = TreeModel(model, attention, parts=2)(pack_tensors(tree, "cpu"))
    assert loss.item() == pytest.approx(plain_loss(model, tree).item(), rel=1e-5)


def test_ten_thousand_labels_are_scored_in_bounded_batches() -> None:
    model = tiny_model(CONFIGS["llama"])
    random = np.random.default_rng(0)
    distinct = {tuple(random_tokens(random, 2, 5).tolist()) for _ in range(10_100)}
    labels = [np.array([*label, 2], dtype=np.int32) for label in sorted(distinct)][:10_000]
    random.shuffle(labels)
    scorer = label_scorer(model, choose_attention(model), labels, max_tokens=2048)
    assert max(len(trie.tree) for trie in scorer.tries) <= 2048
    prompt = random_tokens(random, 8, 8)
    scores = scorer.score(lambda writer: [writer.leaf(prompt)])
    assert np.isfinite(scores).all()
    assert np.exp(scores.astype(np.float64)).sum() <= 1 + 1e-6
    for column in random.integers(0, len(labels), 20):
        ids = torch.tensor(np.concatenate([prompt, labels[column]]).astype(np.int64))
        with torch.no_grad():
            log_probabilities = torch.log_softmax(model(input_ids=ids[None]).logits[0], -1)
        expected = log_probabilities[range(len(prompt) - 1, len(ids) - 1), ids[len(prompt) :]].sum().item()
        assert scores[0, column] == pytest.approx(expected, abs=1e-4)
