"""What scoring does not do: exactness of the scores is tested with the models (tests/behaviorlm/model)."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import behaviorlm.model.tree_model
import behaviorlm.scoring.label_scoring
from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.model.tree_model import body_of
from behaviorlm.scoring.config import Normalization
from behaviorlm.scoring.label_scoring import CPU_TOKENS, alike, label_scorer
from behaviorlm.trees.token_tree import Int32, TokenTree, TreeWriter
from behaviorlm.trees.tree_rows import tree_rows
from tests.behaviorlm.tiny_models import CONFIGS, RECURRENT, random_tokens, tiny_model

WINDOWS = 12


def write_windows(writer: TreeWriter) -> list[int]:
    """Windows of 20 tokens below an instruction: wide enough to be cut into rows where that is asked for."""
    random = np.random.default_rng(0)
    writer.open(random_tokens(random, 4, 4))
    return [writer.leaf(random_tokens(random, 20, 20)) for _ in range(WINDOWS)]


def test_no_rows_are_cut_for_plain_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    writer = TreeWriter()
    write_windows(writer)
    assert tree_rows(writer.finish()) is not None
    model = tiny_model(RECURRENT)
    random = np.random.default_rng(1)
    labels = [np.append(random_tokens(random, 30, 30), 2).astype(np.int32) for _ in range(20)]
    scorer = label_scorer(model, choose_attention(model), labels, max_tokens=2048)
    cut = list[TokenTree]()
    monkeypatch.setattr(behaviorlm.model.tree_model, "tree_rows", lambda tree, *how: cut.append(tree))
    assert np.isfinite(scorer.score(write_windows)).all()
    assert not cut


def passes(model: Any, run: Callable[[], object]) -> list[tuple[int, int]]:
    """Rows and width of the tokens of each pass through the model's body."""
    found = list[tuple[int, int]]()

    def seen(module: Any, arguments: Any, given: dict[str, Any]) -> None:
        found.append(tuple(given["input_ids"].shape))

    handle = body_of(model).register_forward_pre_hook(seen, with_kwargs=True)
    run()
    handle.remove()
    return found


@pytest.mark.parametrize("normalization", ["full", "trie"])
@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_each_token_of_prompts_runs_once_and_pieces_together_where_prompts_are_few(
    kind: str, normalization: Normalization, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(2)
    model = tiny_model(CONFIGS[kind])
    attention = choose_attention(model)  # tries passes of its own
    names = itertools.product((3, 4, 5), (6, 7, 8), (9, 10, 11), (12, 13, 14))
    labels = [np.array([*name, 2], np.int32) for name in names]
    trees = [
        [random_tokens(random, length, length) for length in lengths]
        for lengths in ((6, 3, 4), (7, 2, 3), (6, 5))
    ]
    monkeypatch.setattr(behaviorlm.scoring.label_scoring, "TRIE_NODES", 16)

    def write(writer: TreeWriter, chosen: Sequence[list[Int32]] = trees) -> list[int]:
        last: list[int] = []
        for beginning, *rest in chosen:
            writer.open(beginning)
            last += [writer.leaf(ids) for ids in rest]
            writer.close()
        return last

    def score(max_tokens: int, chosen: Sequence[list[Int32]] = trees) -> NDArray[np.float32]:
        scorer = label_scorer(model, attention, labels, max_tokens, normalization)
        return scorer.score(lambda writer: write(writer, chosen))

    together = passes(model, lambda: score(2048))
    tokens = sum(len(ids) for tree in trees for ids in tree)
    assert together[0] == (1, tokens) and len(together) == 2  # the prompts, then every piece after all five
    assert together[1][0] % 5 == 0 and together[1][0] > 5 and together[1][1] <= 16
    apart = passes(model, lambda: score(16))
    assert len(apart) == 1 + together[1][0]
    found = score(2048)
    np.testing.assert_allclose(found, score(16), rtol=0, atol=1e-5)
    np.testing.assert_allclose(
        found, np.concatenate([score(2048, [tree]) for tree in trees]), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize(
    ("sizes", "most", "groups"),
    [
        ([128, 12], 8, [[0], [1]]),
        ([128, 120, 100, 12, 11], 8, [[0, 1, 2], [3, 4]]),
        ([128, 128, 128], 2, [[0, 1], [2]]),
        ([5], 1, [[0]]),
        ([], 3, []),
    ],
)
def test_trees_of_one_size_run_together(sizes: list[int], most: int, groups: list[list[int]]) -> None:
    assert alike(sizes, most) == groups


def test_few_prompts_pad_the_pieces_of_a_trie_by_no_more_than_a_quarter() -> None:
    model = tiny_model(CONFIGS["llama"])
    labels = [np.array([token, token + 1, 2], np.int32) for token in range(3, 73)]  # 140 nodes: 128 and 12
    scorer = label_scorer(model, choose_attention(model), labels, 1 << 20)
    seen = passes(model, lambda: scorer.score(lambda writer: [writer.leaf(np.array([7, 8], np.int32))]))
    assert sum(rows * width for rows, width in seen[1:]) == 140


def test_no_more_tokens_than_a_cpus_cache_holds_go_through_the_model_at_a_time() -> None:
    model = tiny_model(CONFIGS["llama"])
    labels = [np.array([token, 5, 2], np.int32) for token in range(3, 43)]
    scorer = label_scorer(model, choose_attention(model), labels, 1 << 20)
    prompts = [np.array([7, 8], np.int32)] * 60
    seen = passes(model, lambda: scorer.score(lambda writer: [writer.leaf(ids) for ids in prompts]))
    assert sum(rows * width for rows, width in seen[1:]) == 60 * 80  # every node after every prompt, once
    assert all(CPU_TOKENS // 2 < rows * width <= CPU_TOKENS for rows, width in seen[1:-1])
