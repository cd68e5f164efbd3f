"""The loss over labels' tokens: that of plain sequences whose logits are -inf for all other tokens, in float64."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import behaviorlm.model.lm_head
from behaviorlm.model.attention import TreeAttention
from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.model.lm_head import causal_lm
from behaviorlm.model.tree_model import TreeModel, pack_tensors
from behaviorlm.training.packs import empty_pack
from behaviorlm.trees.token_tree import TokenTree, TreeWriter
from tests.behaviorlm.model.exact_models import gradients, model_of
from tests.behaviorlm.tiny_models import CONFIGS, VOCABULARY, random_tokens, random_tree, tiny_model


def labels_of(tree: TokenTree) -> NDArray[np.int64]:
    """What is predicted for samples, and a few tokens more."""
    return np.union1d(tree.target[tree.part == 0], np.arange(3, VOCABULARY, 17)).astype(np.int64)


def plain_loss(model: Any, tree: TokenTree, labels: NDArray[np.int64]) -> torch.Tensor:
    """One forward pass of the whole model for each read-out, with masked logits where it is of a sample."""
    mask = torch.full((VOCABULARY,), -torch.inf, dtype=torch.float64)
    mask[labels] = 0.0
    total = torch.zeros((), dtype=torch.float64)
    for source, target, weight, part in zip(tree.source, tree.target, tree.weight, tree.part, strict=True):
        ids = torch.from_numpy(tree.token_ids[tree.path_to(int(source))].astype(np.int64))
        logits = model(input_ids=ids[None]).logits[0, -1].double()
        logits = logits + mask if part == 0 else logits
        total = total - float(weight) * torch.log_softmax(logits, -1)[int(target)]
    return total


@pytest.mark.parametrize("head_rows", [1024, 4])
@pytest.mark.parametrize(
    "kind", ["full", "tied", "gpt2", "gemma2", "gemma3", "adapters", "adapters, one on the head"]
)
def test_loss_and_gradient_are_those_of_masked_plain_sequences(
    kind: str, head_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(behaviorlm.model.lm_head, "HEAD_ROWS", head_rows)
    model = model_of(kind)
    tree = random_tree(seed=2)
    labels = labels_of(tree)
    loss, parts, _ = TreeModel(model, choose_attention(model), 2, labels)(pack_tensors(tree, "cpu"))
    loss.backward()
    found = gradients(model)
    expected = plain_loss(model, tree, labels)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    assert parts.sum().item() == pytest.approx(expected.item(), rel=1e-9)
    exactly = 1e-6 if kind == "gemma2" else 1e-9  # its attention's softmax is float32 whatever its input is
    wanted = gradients(model)
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert (found[name] - gradient).norm() <= exactly * gradient.norm(), name


def test_plain_sequences_give_the_same_loss() -> None:
    model, tree = model_of("full"), random_tree(seed=4)
    losses = [
        TreeModel(model, TreeAttention(kind), 2, labels_of(tree))(pack_tensors(tree, "cpu"))[0].item()
        for kind in ("full", "plain")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)


def test_the_head_runs_for_conversations_only() -> None:
    model, tree = tiny_model(CONFIGS["llama"]), random_tree(seed=2)
    rows: list[int] = []
    head: Any = causal_lm(model).get_output_embeddings()
    head.register_forward_hook(lambda module, given, made: rows.append(len(made)))
    TreeModel(model, TreeAttention("full"), 2, labels_of(tree))(pack_tensors(tree, "cpu"))
    assert sum(rows) == (tree.part == 1).sum()


def test_what_no_label_has_is_impossible_and_costs_nothing_without_weight() -> None:
    model = tiny_model(CONFIGS["llama"])
    tree_model = TreeModel(model, TreeAttention("full"), 1, np.array([5, 9]))
    writer = TreeWriter()
    writer.open(random_tokens(np.random.default_rng(0), 3, 3))
    writer.chain(np.array([7], np.int32), weight=1.0, part=0, item=0)
    assert tree_model(pack_tensors(writer.finish(), "cpu"))[0].item() == float("inf")
    loss, parts, _ = tree_model(pack_tensors(empty_pack(), "cpu"))
    loss.backward()
    assert (loss.item(), parts.tolist()) == (0.0, [0.0])
    assert all(not gradient.any() for gradient in gradients(model).values())
