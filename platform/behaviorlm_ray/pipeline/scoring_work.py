"""What scoring a prompt costs, told before it is done: nodes of the trie of names, and plain sequences in its place."""

from collections.abc import Sequence

import numpy as np

from behaviorlm.errors import ModelError
from behaviorlm.model.base_model import load_model_config
from behaviorlm.scoring.config import Normalization
from behaviorlm.timelines.parts import labels_with_terminator
from behaviorlm.trees.closed_trie import build_closed_trie
from behaviorlm.trees.label_trie import UNCUT, build_tries
from behaviorlm.trees.token_tree import Int32
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.preparation.prepared_log import PreparedLog, rows_of_split


def check_plain_allowed(settings: RunSettings) -> None:
    """Raise ModelError where the base would run as plain sequences and that is not allowed."""
    if settings.execution.allow_plain or not _is_plain(settings):
        return
    from behaviorlm.model.attention_choice import plain_is_refused

    raise ModelError(plain_is_refused(_model_type(settings)))


def plain_warnings(settings: RunSettings, log: PreparedLog | None) -> list[str]:
    """What to say where the base takes no token trees: none or one line. log: None before it is prepared."""
    if not _is_plain(settings):
        return []
    told = "each prompt goes through it once for each behavior"
    if log is not None:
        told = f"scoring takes about {_plain_factor(settings, log):,.0f} times the tokens"
    return [
        f"a {_model_type(settings)} model takes no token trees and runs as plain sequences: the same numbers, but "
        f"{told}, and tuning lays out every sample alone; execution.allow_plain: false would refuse it"
    ]


def described_work(settings: RunSettings, log: PreparedLog) -> str:
    """How many nodes of the trie of names go through the model after each prompt, and what its head does there."""
    labels, vocabulary = labels_with_terminator(log.prompt), _vocabulary(settings)
    nodes, rows = names_work(labels, "full", vocabulary)
    closed_nodes, closed_rows = names_work(labels, "trie", vocabulary)
    of_names = f"{len(labels)} names"
    if settings.scoring.normalization == "full":
        return (
            f"scoring, normalization full: {nodes} nodes of {of_names} after each prompt, {rows:,} rows of the LM "
            f"head (trie: {closed_nodes} nodes, {closed_rows} rows)"
        )
    return (
        f"scoring, normalization trie: {closed_nodes} of {nodes} nodes of {of_names} after each prompt, "
        f"{closed_rows} rows of the LM head"
    )


def names_work(labels: Sequence[Int32], normalization: Normalization, vocabulary: int) -> tuple[int, int]:
    """Nodes of names that go through the model after each prompt, and rows of its head that are multiplied there."""
    if normalization == "trie":
        closed = build_closed_trie(labels, UNCUT)
        return closed.nodes, len(closed.child_token)
    (whole,) = build_tries(labels, UNCUT)
    return len(whole.tree), len(np.unique(whole.edge_source)) * vocabulary


def _plain_factor(settings: RunSettings, log: PreparedLog) -> float:
    """Tokens of plain sequences by those of a tree that shares nothing between prompts: a lower bound."""
    labels = labels_with_terminator(log.prompt)
    lengths = [len(label) - 1 for label in labels]
    closed = build_closed_trie(labels, UNCUT)
    sequences, nodes = lengths, sum(len(trie.tree) for trie in build_tries(labels, UNCUT))
    if settings.scoring.normalization == "trie":
        sequences, nodes = [0, *closed.depths()], closed.nodes
    prompt = _mean_prompt(log)
    return (prompt * len(sequences) + sum(sequences)) / (prompt + nodes)


def _mean_prompt(log: PreparedLog) -> float:
    """Tokens of the prompts of training samples on average."""
    parts = zip(log.parts, rows_of_split(log, "train"), strict=True)
    tokens = np.concatenate([part.prompt_lengths(rows) for part, rows in parts])
    return len(log.prompt.instruction_ids) + (float(tokens.mean()) if len(tokens) else 0.0)


def _is_plain(settings: RunSettings) -> bool:
    from behaviorlm.model.attention_choice import planned_attention

    attention = planned_attention(settings.model)
    return attention is not None and attention.kind == "plain"


def _model_type(settings: RunSettings) -> str:
    kind: str = load_model_config(settings.model).get_text_config().model_type
    return kind


def _vocabulary(settings: RunSettings) -> int:
    size: int = load_model_config(settings.model).get_text_config().vocab_size
    return size
