"""Rows of a cut tree against the tree itself: structure, log-probabilities and gradients."""

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn
from transformers.pytorch_utils import Conv1D

from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.model.row_attention import RowTensors
from behaviorlm.model.tree_model import TreeModel, body_of, pack_tensors
from behaviorlm.trees.token_tree import TokenTree, TreeWriter
from behaviorlm.trees.tree_rows import TreeRows, tree_rows
from tests.behaviorlm.tiny_models import CONFIGS, VOCABULARY, tiny_model


def wide_tree(seed: int, windows: int, roots: int = 1) -> TokenTree:
    """Instructions with many windows below each, some of them branched, and a plain sequence at the end."""
    random = np.random.default_rng(seed)

    def tokens(low: int, high: int) -> np.ndarray:
        return random.integers(3, VOCABULARY, int(random.integers(low, high))).astype(np.int32)

    writer = TreeWriter()
    item = 0
    for _ in range(roots):
        writer.open(tokens(1, 9))
        for _ in range(windows):
            writer.open(tokens(1, 20))
            for _ in range(int(random.integers(0, 3))):
                question, label = tokens(0, 3), tokens(1, 4)
                written = np.concatenate([question, label])
                is_label = np.arange(len(written)) >= len(question)
                writer.chain(written, is_label, weight=0.1, part=0, item=item)
                item += 1
            writer.close()
        writer.close()
    chain = tokens(5, 30)
    writer.chain(chain, np.arange(len(chain)) % 2 == 1, weight=0.2, part=1, item=item)
    return writer.finish()


def cut(tree: TokenTree, row_tokens: int) -> TreeRows:
    rows = tree_rows(tree, row_tokens)
    assume(rows is not None)
    assert rows is not None
    return rows


@given(st.integers(0, 10**6), st.integers(8, 30), st.integers(1, 3), st.integers(1, 60))
def test_every_token_sees_the_same_path_in_its_row(seed: int, windows: int, roots: int, width: int) -> None:
    tree = wide_tree(seed, windows, roots)
    rows = cut(tree, width)
    count, width = rows.take.shape
    for token in range(len(tree)):
        row, column = divmod(int(rows.place[token]), width)
        seen = [j for j in range(column + 1) if rows.end[row, j] > column]
        assert rows.take[row, seen].tolist() == tree.path_to(token).tolist()
        assert rows.depth[row, column] == tree.depth[token]
    assert len(np.unique(rows.place)) == len(tree) <= count * width
    # every place is a token's, a further copy's, or padding, which has depth 0 and is not told
    assert not set(rows.copies) & set(rows.place)
    assert (rows.take.ravel()[rows.copies] == rows.originals).all()
    told = np.zeros(count * width, bool)
    told[rows.place] = told[rows.copies] = True
    assert (rows.take.ravel()[~told] == 0).all()


@given(st.integers(0, 10**6), st.integers(0, 30), st.integers(1, 60))
def test_rounded_widths_are_few_and_hold_the_same_paths_in_no_more_rows(
    seed: int, windows: int, width: int
) -> None:
    tree = wide_tree(seed, windows)
    rows, rounded = tree_rows(tree, width), tree_rows(tree, width, multiple=64)
    if rounded is None:
        assert len(tree) % 64 == 0
        return
    assert rounded.take.shape[1] % 64 == 0
    if rows is not None and len(rounded.take) > 1:
        assert len(rounded.take) <= len(rows.take)
    for token in range(len(tree)):
        row, column = divmod(int(rounded.place[token]), rounded.take.shape[1])
        seen = [j for j in range(column + 1) if rounded.end[row, j] > column]
        assert rounded.take[row, seen].tolist() == tree.path_to(token).tolist()
        assert rounded.depth[row, column] == tree.depth[token]


@given(st.integers(0, 10**6), st.integers(1, 40))
def test_what_is_not_a_token_attends_to_itself_alone(seed: int, width: int) -> None:
    rows = cut(wide_tree(seed, 20), width)
    for take, end in zip(rows.take, rows.end, strict=True):
        used = int(np.flatnonzero(take).max(initial=0)) + 1
        assert end[used:].tolist() == list(range(used + 1, len(end) + 1))
        assert (end[:used] <= used).all()


def test_a_tree_that_one_row_holds_as_well_is_not_cut() -> None:
    writer = TreeWriter()
    writer.open(np.arange(3, 60, dtype=np.int32))
    for item in range(2):
        writer.chain(np.arange(5, dtype=np.int32), np.arange(5) >= 2, weight=1, part=0, item=item)
    assert tree_rows(writer.finish()) is None
    assert tree_rows(TreeWriter().finish()) is None


@pytest.mark.parametrize("name", ["qwen2", "mistral_window", "gemma3"])
@pytest.mark.parametrize("windows", [0, 25])
def test_padding_to_rounded_widths_changes_no_loss_and_no_gradient(name: str, windows: int) -> None:
    model = tiny_model(CONFIGS[name])
    tree_model = TreeModel(model, choose_attention(model), parts=2)
    tree = wide_tree(1, windows)
    batch = pack_tensors(tree, "cpu", row_tokens=48)
    rows = tree_rows(tree, 48, multiple=64)
    assert rows is not None and (windows == 0) == (len(rows.take) == 1)
    arrays = (rows.take, rows.depth, rows.end, rows.place, rows.copies, rows.originals)
    padded = replace(batch, rows=RowTensors(*map(torch.from_numpy, arrays)))
    found = []
    for given_batch in (batch, padded):
        model.zero_grad()
        loss, _, nll = tree_model(given_batch)
        loss.backward()
        gradients = [p.grad.flatten().clone() for p in model.parameters() if p.grad is not None]
        found.append((nll, torch.cat(gradients)))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-5, atol=2e-5)
    assert (found[0][1] - found[1][1]).norm() < 1e-5 * found[0][1].norm()


def test_a_pack_for_cuda_is_laid_out_in_rounded_widths(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(
        "behaviorlm.model.tree_model.tree_rows", lambda tree, tokens, multiple: asked.append(multiple)
    )
    tree = wide_tree(0, 3)
    for device in ("cpu", "meta"):
        pack_tensors(tree, device)
    with suppress(AssertionError, RuntimeError):  # where there is none
        pack_tensors(tree, "cuda:0")
    assert asked == [1, 1, 64]


@pytest.mark.parametrize("name", CONFIGS)
def test_each_token_goes_through_every_product_of_the_body_once_though_rows_copy_it(name: str) -> None:
    model = tiny_model(CONFIGS[name])
    tree_model = TreeModel(model, choose_attention(model), parts=2)
    tree = wide_tree(0, 25)
    batch = pack_tensors(tree, "cpu", row_tokens=48)
    assert batch.rows is not None and batch.rows.take.numel() > len(tree) + 100
    through: set[int] = set()
    for module in body_of(model).modules():
        if isinstance(module, nn.Linear | Conv1D):
            module.register_forward_hook(lambda _, given, made: through.add(given[0].shape[:-1].numel()))
    tree_model(batch)
    # Gemma 2 caps its attention's logits by code of its own, which does not know of rows
    assert through == {batch.rows.take.numel() if name == "gemma2" else len(tree)}


@pytest.mark.parametrize("name", CONFIGS)
def test_rows_give_the_loss_and_gradients_of_the_one_row(name: str) -> None:
    model = tiny_model(CONFIGS[name])
    tree_model = TreeModel(model, choose_attention(model), parts=2)
    for seed in range(3):
        batch = pack_tensors(wide_tree(seed, 25), "cpu", row_tokens=48)
        assert batch.rows is not None and len(batch.rows[0]) > 3
        found = []
        for given_batch in (batch, replace(batch, rows=None)):
            model.zero_grad()
            loss, _, nll = tree_model(given_batch)
            loss.backward()
            found.append(
                (nll, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
            )
        torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-5, atol=2e-5)
        assert found[0][1].keys() == found[1][1].keys()
        for parameter, gradient in found[1][1].items():
            difference = (found[0][1][parameter] - gradient).norm() / (gradient.norm() + 1e-6)
            assert difference < 1e-3, (name, parameter, float(difference))
