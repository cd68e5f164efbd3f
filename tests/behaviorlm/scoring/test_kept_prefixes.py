"""Kept prefixes change no score, for each supported architecture, and hold only as far as their tokens are the same."""

import numpy as np
import pytest
import torch
from transformers import PretrainedConfig

from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.scoring.kept_prefixes import KeptPrefix
from behaviorlm.scoring.label_scoring import LabelScorer, label_scorer
from behaviorlm.trees.token_tree import Int32, TreeWriter
from tests.behaviorlm.tiny_models import CONFIGS, random_tokens, tiny_model, window_writer

ARCHITECTURES = [pytest.param(config, id=name) for name, config in CONFIGS.items()]


def kept(scorer: LabelScorer, token_ids: Int32) -> KeptPrefix:
    """What a model makes of these tokens alone."""

    def write(writer: TreeWriter) -> list[int]:
        return [writer.open(token_ids)]

    return scorer.run(write).prefix(0, len(token_ids))


@pytest.mark.parametrize("config", ARCHITECTURES)
def test_scores_on_kept_prefixes_equal_one_plain_pass_for_each_label(config: PretrainedConfig) -> None:
    model = tiny_model(config, 1)
    random = np.random.default_rng(1)
    labels = [np.append(random_tokens(random, 1, 4), 2).astype(np.int32) for _ in range(6)]
    labels = [*{tuple(label.tolist()): label for label in labels}.values()]
    instruction, question = random_tokens(random, 3, 6), random_tokens(random, 1, 3)
    lines = [random_tokens(random, 3, 5) for _ in range(4)]
    prompts = [np.concatenate([instruction, *lines[: row + 1], question]) for row in range(4)]
    scorer = label_scorer(model, choose_attention(model), labels, max_tokens=2048)
    differs = np.concatenate([prompts[2][:-4], (prompts[2][-4:] + 1) % 50]).astype(np.int32)
    given = [kept(scorer, instruction), None, kept(scorer, differs), kept(scorer, prompts[3])]
    run = scorer.run(window_writer(instruction, lines, [question] * 4), given)
    assert run.computed < 4 * len(question) + len(differs)  # what was kept did not run again

    expected = np.empty((4, len(labels)))
    for row, column in np.ndindex(expected.shape):
        ids = torch.tensor(np.concatenate([prompts[row], labels[column]]).astype(np.int64))
        with torch.no_grad():
            told = torch.log_softmax(model(input_ids=ids[None]).logits[0].double(), -1)
        places = np.arange(len(prompts[row]) - 1, len(ids) - 1)
        expected[row, column] = told[places, ids[places + 1]].sum()
    assert np.abs(scorer.scores(run) - expected).max() < 1e-5


def test_a_prefix_is_used_as_far_as_its_tokens_are_the_same_and_never_to_the_end() -> None:
    model = tiny_model(next(iter(CONFIGS.values())), 0)
    scorer = label_scorer(model, choose_attention(model), [np.array([5, 2], np.int32)], max_tokens=64)
    prompt = np.arange(10, 20, dtype=np.int32)

    def computed(*prefixes: Int32 | None) -> int:
        held = [None if ids is None else kept(scorer, ids) for ids in prefixes]
        return scorer.run(lambda writer: [writer.leaf(prompt) for _ in prefixes], held).computed

    assert computed(None) == 10
    assert computed(prompt[:4]) == 6
    assert computed(np.concatenate([prompt[:4], [9], prompt[5:]]).astype(np.int32)) == 6
    assert computed((prompt + 1).astype(np.int32)) == 10
    assert computed(prompt) == computed(np.append(prompt, 7).astype(np.int32)) == 1
    assert computed(prompt[:4], None, prompt[:8]) == 6 + 10 + 2


def test_the_end_of_a_prompt_that_another_one_goes_on_from_is_computed() -> None:
    model = tiny_model(next(iter(CONFIGS.values())), 0)
    labels = [np.array([token, 2], np.int32) for token in (5, 6)]
    scorer = label_scorer(model, choose_attention(model), labels, max_tokens=64)
    short, more = np.arange(10, 18, dtype=np.int32), np.arange(20, 24, dtype=np.int32)

    def write(writer: TreeWriter) -> list[int]:
        return [writer.open(short), writer.leaf(more)]

    run = scorer.run(write, [None, kept(scorer, np.concatenate([short, more]))])
    assert run.computed == 2
    np.testing.assert_allclose(scorer.scores(run), scorer.score(write), rtol=0, atol=1e-5)


def test_what_is_kept_does_not_hold_the_tree_that_it_came_from() -> None:
    model = tiny_model(next(iter(CONFIGS.values())), 0)
    scorer = label_scorer(model, choose_attention(model), [np.array([5, 2], np.int32)], max_tokens=64)
    small = kept(scorer, np.arange(10, 40, dtype=np.int32))
    run = scorer.run(lambda writer: [writer.leaf(np.arange(10, 40, dtype=np.int32))])
    cut = run.prefix(0, 15)
    assert cut.size * 2 == small.size
    assert sum(part.untyped_storage().nbytes() for layer in cut.keys_values for part in layer) < cut.size
