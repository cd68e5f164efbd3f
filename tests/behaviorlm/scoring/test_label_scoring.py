"""What scoring does not do: exactness of the scores is tested with the models (tests/behaviorlm/model)."""

import numpy as np
import pytest
from transformers import PretrainedConfig

import behaviorlm.model.tree_model
from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.scoring.label_scoring import label_scorer
from behaviorlm.trees.token_tree import TokenTree, TreeWriter
from behaviorlm.trees.tree_rows import tree_rows
from tests.behaviorlm.tiny_models import CONFIGS, RECURRENT, random_tokens, tiny_model

WINDOWS = 12


def write_windows(writer: TreeWriter) -> list[int]:
    """Windows of 20 tokens below an instruction: wide enough to be cut into rows where that is asked for."""
    random = np.random.default_rng(0)
    writer.open(random_tokens(random, 4, 4))
    return [writer.leaf(random_tokens(random, 20, 20)) for _ in range(WINDOWS)]


@pytest.mark.parametrize("config", [CONFIGS["llama"], RECURRENT], ids=["tree", "plain sequences"])
def test_no_rows_are_cut_where_nobody_reads_them(
    config: PretrainedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = TreeWriter()
    write_windows(writer)
    assert tree_rows(writer.finish()) is not None
    model = tiny_model(config)
    random = np.random.default_rng(1)
    labels = [np.append(random_tokens(random, 30, 30), 2).astype(np.int32) for _ in range(20)]
    scorer = label_scorer(model, choose_attention(model), labels, max_tokens=2048)
    cut = list[TokenTree]()
    monkeypatch.setattr(behaviorlm.model.tree_model, "tree_rows", lambda tree, tokens: cut.append(tree))
    assert np.isfinite(scorer.score(write_windows)).all()
    assert not cut
