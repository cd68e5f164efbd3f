"""Label scores over a closed trie against brute force: a plain pass for each beginning, a softmax over what follows."""

from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import CohereConfig, Gemma2Config, LlamaConfig, PhiConfig, PretrainedConfig

from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.scoring.label_scoring import Work, label_scorer
from behaviorlm.trees.token_tree import TreeWriter
from tests.behaviorlm.tiny_models import COMMON, CONFIGS, RECURRENT, VOCABULARY, random_tokens, tiny_model

TERMINATOR = 2
HEADS: dict[str, PretrainedConfig] = {
    "bias": PhiConfig(**COMMON),
    "tied": LlamaConfig(**COMMON, tie_word_embeddings=True),
    "soft cap": Gemma2Config(**COMMON, head_dim=8, sliding_window=5, final_logit_softcapping=1.5),
    "scaled": CohereConfig(**COMMON, logit_scale=0.2),
}


def names(random: np.random.Generator, number: int, tokens: int = 6) -> list[np.ndarray]:
    """Names of few tokens, so that many begin alike and some are beginnings of others."""
    distinct = dict[tuple[int, ...], None]()
    while len(distinct) < number:
        distinct[tuple((3 + random.integers(0, tokens, random.integers(1, 7))).tolist())] = None
    return [np.array([*name, TERMINATOR], np.int32) for name in distinct]


def brute_force(model: Any, prompt: np.ndarray, labels: list[np.ndarray]) -> np.ndarray:
    """log p of each label in float64, from the logits that the model itself gives for each plain beginning."""
    ids = [label.tolist() for label in labels]
    known: dict[tuple[int, ...], dict[int, float]] = {}
    for label in ids:
        for at in range(len(label)):
            known.setdefault(tuple(label[:at]), {})[label[at]] = 0.0
    for length in sorted({len(beginning) for beginning in known}):  # a batch of plain sequences of one length
        beginnings = [beginning for beginning in known if len(beginning) == length]
        sequences = torch.tensor([[*prompt.tolist(), *beginning] for beginning in beginnings])
        with torch.no_grad():
            logits = model(input_ids=sequences).logits[:, -1].double()
        for beginning, row in zip(beginnings, logits, strict=True):
            following = known[beginning]
            values = torch.log_softmax(row[list(following)], 0).tolist()
            following |= zip(following, values, strict=True)
    return np.array([sum(known[tuple(label[:at])][label[at]] for at in range(len(label))) for label in ids])


def checked(model: Any, labels: list[np.ndarray], tolerance: float, max_tokens: int = 1000) -> Work:
    """Score three prompts of one tree and hold them against brute force."""
    random = np.random.default_rng(1)
    shared, prompts = random_tokens(random, 4, 4), [random_tokens(random, 3, 9) for _ in range(3)]

    def write(writer: TreeWriter) -> list[int]:
        writer.open(shared)
        return [writer.leaf(prompt) for prompt in prompts]

    scorer = label_scorer(model, choose_attention(model), labels, max_tokens, "trie")
    scores, work = scorer.score_counted(write)
    exact = model.double()
    for row, prompt in enumerate(prompts):
        expected = brute_force(exact, np.concatenate([shared, prompt]), labels)
        np.testing.assert_allclose(scores[row], expected, rtol=0, atol=tolerance)
    np.testing.assert_allclose(np.exp(scores.astype(np.float64)).sum(axis=1), 1, rtol=0, atol=1e-6)
    return work


@pytest.mark.parametrize("name", [*CONFIGS, *HEADS])
def test_scores_equal_renormalized_conditional_probabilities(name: str) -> None:
    labels = names(np.random.default_rng(0), 20)
    checked(tiny_model((CONFIGS | HEADS)[name]), labels, 1e-4)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("max_tokens", [1000, 7])
def test_in_float64_they_are_exact_on_random_tries_cut_or_whole(seed: int, max_tokens: int) -> None:
    random = np.random.default_rng(seed)
    labels = names(random, int(random.integers(2, 30)), tokens=int(random.integers(2, 9)))
    checked(tiny_model(CONFIGS["gpt2"], seed).double(), labels, 2e-6, max_tokens)


def test_a_model_that_takes_no_trees_gives_the_same_scores() -> None:
    labels = names(np.random.default_rng(0), 9)
    model = tiny_model(RECURRENT)
    assert choose_attention(model).kind == "plain"
    checked(model, labels, 1e-4)


@pytest.mark.parametrize("head", [False, True], ids=["adapter", "adapter on the head, too"])
def test_adapters_count(head: bool) -> None:
    targets = ["q_proj", "down_proj", *(["lm_head"] if head else [])]
    model = get_peft_model(tiny_model(CONFIGS["llama"]), LoraConfig(r=4, target_modules=targets)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.5)
    labels = names(np.random.default_rng(0), 15)
    work = checked(model, labels, 1e-4)
    # a head with an adapter is more than its matrix, so it runs whole
    assert (work.head_rows % VOCABULARY == 0 and work.head_rows > 3 * VOCABULARY) == head


@pytest.mark.parametrize("number", [2, 1000, 10_000])
def test_the_probabilities_of_all_labels_sum_to_one_however_many_there_are(number: int) -> None:
    random = np.random.default_rng(number)
    labels = names(random, number, tokens=30)
    model = tiny_model(CONFIGS["llama"])
    scorer = label_scorer(model, choose_attention(model), labels, 512, "trie")
    prompt = random_tokens(random, 8, 8)
    scores = scorer.score(lambda writer: [writer.leaf(prompt)])[0].astype(np.float64)
    assert scorer.closed is not None
    assert (len(scorer.closed.trie.pieces) > 1) == (number > 2)
    assert np.exp(scores).sum() == pytest.approx(1, abs=1e-6)
    for chosen in random.integers(0, number, 5):
        assert scores[chosen] == pytest.approx(score_of(model, prompt, labels, int(chosen)), abs=1e-4)


@pytest.mark.parametrize("temperature", [0.4, 2.5])
@pytest.mark.parametrize("max_tokens", [1000, 7])
def test_logits_are_divided_by_the_temperature_at_each_choice(temperature: float, max_tokens: int) -> None:
    random = np.random.default_rng(3)
    labels, model = names(random, 12, tokens=5), tiny_model(CONFIGS["gpt2"], 3).double()
    prompt = random_tokens(random, 6, 6)
    scorer = label_scorer(model, choose_attention(model), labels, max_tokens, "trie", temperature)
    scores = scorer.score(lambda writer: [writer.leaf(prompt)])[0]
    wanted = [score_of(model, prompt, labels, chosen, temperature) for chosen in range(len(labels))]
    assert scores == pytest.approx(wanted, abs=2e-6)


def score_of(
    model: Any, prompt: np.ndarray, labels: list[np.ndarray], chosen: int, temperature: float = 1.0
) -> float:
    label, total = labels[chosen].tolist(), 0.0
    for at in range(len(label)):
        following = sorted({int(o[at]) for o in labels if len(o) > at and o[:at].tolist() == label[:at]})
        sequence = torch.tensor([*prompt.tolist(), *label[:at]])[None]
        with torch.no_grad():
            logits = model(input_ids=sequence).logits[0, -1].double()[following]
        total += float(torch.log_softmax(logits / temperature, 0)[following.index(label[at])])
    return total


def test_an_only_label_is_certain() -> None:
    model = tiny_model(CONFIGS["llama"])
    scorer = label_scorer(model, choose_attention(model), names(np.random.default_rng(0), 1), 100, "trie")
    scores, work = scorer.score_counted(lambda writer: [writer.leaf(np.array([5, 6], np.int32))])
    assert scores.tolist() == [[0.0]] and work == Work(tokens=2, nodes=0, head_rows=0)


def test_only_branching_nodes_and_those_above_go_through_the_model() -> None:
    labels = [
        np.array([*name, TERMINATOR], np.int32) for name in ([3, 4, 5, 6], [3, 4, 7, 8, 9], [10, 11, 12])
    ]
    model = tiny_model(CONFIGS["llama"])
    prompts = [np.array([5, 6, 7], np.int32), np.array([8], np.int32)]
    found = {}
    for normalization in ("full", "trie"):
        scorer = label_scorer(model, choose_attention(model), labels, 100, normalization)
        _, found[normalization] = scorer.score_counted(lambda writer: [writer.leaf(ids) for ids in prompts])
    # after 3, 4 names part, and at the prompt's end: two nodes, and two children at each of the places
    assert found["trie"] == Work(tokens=4 + 2 * 2, nodes=2 * 2, head_rows=2 * 4)
    assert found["full"] == Work(tokens=4 + 2 * 10, nodes=2 * 10, head_rows=2 * 11 * VOCABULARY)
